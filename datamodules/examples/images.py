"""Slices and masks as PNG files, in the folders that `datamodules.ImageFolder` reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.examples.example import Amount, ExampleData
from datamodules.index.manifest import COLUMNS, MANIFEST
from datamodules.phantoms.patient import Patient, render
from datamodules.phantoms.profiles import SHIFTS, profile
from lightning_fl.files import write_csv

WHITE = 255
"""Of infection in a mask, so that a person who opens one sees something."""


def make(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `folder/<site>/images`, `folder/<site>/masks` and `folder/manifest.csv`.

    Hospitals differ as those of `ChestPhantoms` do.
    """
    yield from _hospitals(folder, amount, amount.site_names)


def make_apart(folder: Path, amount: Amount) -> Iterator[str]:
    """Write a root for each hospital, with `folder/<site>/manifest.csv` and so on.

    So a hospital can have what is its own and nothing else.
    """
    for site in amount.site_names:
        yield from _hospitals(folder / site, amount, site)


def _hospitals(root: Path, amount: Amount, sites: Sequence[str]) -> Iterator[str]:
    """Write some hospitals under one root, the manifest at the end."""
    rows: list[tuple[str, str, str]] = []
    for site in sites:
        for part in ("images", "masks"):
            (root / site / part).mkdir(parents=True)
        for name, seed in amount.patients_of(site):
            stack = render(Patient(seed, amount.slices, amount.size, profile(site, SHIFTS)))
            rows += [(site, name, file) for file in _write(root / site, name, stack)]
            yield name
    write_csv(root / MANIFEST, COLUMNS, rows)


def _write(folder: Path, patient: str, stack: npt.NDArray[np.uint8]) -> list[str]:
    """Write a patient's images and masks, (2, slices, height, width); return the files' names."""
    files = [f"{patient}_{level + 1:02d}.png" for level in range(stack.shape[1])]
    for file, image, mask in zip(files, *stack, strict=True):
        Image.fromarray(image).save(folder / "images" / file)
        Image.fromarray(mask * WHITE).save(folder / "masks" / file)
    return files


CONFIGS = ("configs/deploy_demo.yaml",)
IMAGES = ExampleData(CONFIGS, Amount(sites=3, patients=8, size=64, slices=12), make, make_apart)
