"""What each party has when the run is over."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from examples.deploy_demo.places import Places
from lightning_fl.errors import ConfigError
from lightning_fl.hospital.records import MESSAGES
from lightning_fl.run_files import GLOBAL, MODELS, REPORT

IMAGES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npz", ".npy", ".dcm", ".gz"}
"""Suffixes of files that could hold images of patients."""


def summary(places: Places, sites: Sequence[str]) -> str:
    """Say where the report is, and what each party has.

    Raises:
        ConfigError: the coordinator has what it must not have.
    """
    lines = [f"Report: {places.run / REPORT}"]
    for site in sites:
        lines += _hospital(places, site)
    mine = _files(places.coordinator)
    if leaked := [file for file in mine if is_a_hospitals(file)]:
        raise ConfigError(f"The coordinator has {leaked[0]}, which belongs to a hospital.")
    models = ", ".join(str(file.relative_to(places.folder)) for file in mine if _is_model(file))
    lines += [f"Coordinator: the shared model ({models}), no image and no hospital's own model"]
    return "\n".join(lines) + "\n"


def run_folders(places: Places, site: str) -> list[Path]:
    """List what the runs have left at a hospital, a folder for each."""
    return sorted(file.parent for file in places.kit(site).glob(f"runs/*/{MESSAGES}"))


def is_a_hospitals(file: Path) -> bool:
    """Tell whether a file holds images, or a model that is not the shared one."""
    return file.suffix.lower() in IMAGES or (_is_model(file) and file.stem != GLOBAL)


def _is_model(file: Path) -> bool:
    return file.suffix == ".safetensors" and file.parent.name == MODELS


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _hospital(places: Places, site: str) -> Iterator[str]:
    for folder in run_folders(places, site):
        models = ", ".join(file.name for file in _files(folder / MODELS))
        yield f"Hospital {site}: {folder.relative_to(places.folder)} with models/ {models}"
        yield f"  {MESSAGES}: {_traffic(folder / MESSAGES)}"


def _traffic(file: Path) -> str:
    """Say how much came in and went out."""
    with file.open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    counted = {
        way: [int(row["bytes"]) for row in rows if row["direction"] == way] for way in ("in", "out")
    }
    return "; ".join(
        f"{len(sizes)} messages {way}, {sum(sizes) / 1e6:.1f} MB" for way, sizes in counted.items()
    )
