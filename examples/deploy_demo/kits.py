"""What a hospital does with its kit before it takes part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.files import write_text
from lightning_fl.hospital.file import NAME
from lightning_fl.hospital.prepare_kit import identity_of, prepare


def settle(folder: Path, data: Path) -> str:
    """Prepare a hospital's kit.

    Returns:
        The fingerprint of its identity, which the other hospitals pin.
    """
    prepare(folder / "kit", data)
    return identity_of(folder / "kit")


def pin(folder: Path, pins: Mapping[str, str]) -> None:
    """Write the fingerprints of all hospitals, told by each, into a hospital's file."""
    file = folder / "kit" / "local" / NAME
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["pins"] = dict(pins)
    values["least_cases"] = 2  # the demo's hospitals have few patients
    write_text(file, yaml.safe_dump(values, sort_keys=False))
