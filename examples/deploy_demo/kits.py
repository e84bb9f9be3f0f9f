"""What a hospital does with its kit before it takes part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.files import write_text
from lightning_fl.hospital.file import NAME
from lightning_fl.hospital.prepare_kit import prepare

IDENTITY = "identity"
"""Folder of a hospital's key, beside its kit."""


def settle(folder: Path, site: str, data: Path) -> str:
    """Prepare a hospital's kit, and make the identity that signs its mask keys.

    Returns:
        The fingerprint of the identity, which the other hospitals pin.
    """
    prepare(folder / "kit", data)
    (folder / IDENTITY).mkdir()
    return make(folder / IDENTITY / f"{site}{SUFFIX}")


def pin(folder: Path, pins: Mapping[str, str]) -> None:
    """Write the fingerprints of all hospitals, told by each, into a hospital's file."""
    file = folder / "kit" / "local" / NAME
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    ring = values["settings"]["aggregator"]["init_args"]
    ring |= {"identities": str(folder / IDENTITY), "pins": dict(pins)}
    write_text(file, yaml.safe_dump(values, sort_keys=False))
