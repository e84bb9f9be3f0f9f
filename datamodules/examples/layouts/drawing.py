"""Draws what the images of all layouts show, and writes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.examples.example import Amount, ExampleData, Make
from datamodules.examples.nifti_writer import write_nifti

Bytes = npt.NDArray[np.uint8]

SPACING = np.diag([4.0, 4.0, 8.0, 1.0])
"""From indices to mm: 32 voxels span 128 mm."""


def layout(config: str, make: Make, *, sites: int = 3, patients: int = 5) -> ExampleData:
    """Describe a layout that is trained by a config and its recipe."""
    amount = Amount(sites=sites, patients=patients, size=32, slices=12)
    return ExampleData((config,), amount, make, recipe=True)


def people(amount: Amount) -> Iterator[tuple[int, str, str, int]]:
    """Yield number of the site, site, patient and seed of all patients."""
    for number, site in enumerate(amount.site_names):
        for patient, seed in amount.patients_of(site):
            yield number, site, patient, seed


def draw(seed: int, shape: tuple[int, ...], site: int, contrast: int = 60) -> tuple[Bytes, Bytes]:
    """Draw an ellipse with a core in noise; each site has another brightness.

    Args:
        seed: of place, size and noise.
        shape: of the image, 2-D or 3-D.
        site: number of the site.
        contrast: how much brighter the ellipse is than its surroundings, and its core than it.

    Returns:
        The image, and its mask: 1 in the ellipse, 2 in the core.
    """
    rng = np.random.default_rng(seed)
    places = np.indices(shape).astype(float)
    squares = [
        ((place - n * rng.uniform(0.4, 0.6)) / (n * rng.uniform(0.25, 0.35))) ** 2
        for place, n in zip(places, shape, strict=True)
    ]
    distance = np.sqrt(np.sum(squares, axis=0))
    mask = (distance < 1).astype(np.uint8) + (distance < 0.6)
    image = 50 + 15 * (site % 5) + contrast * mask + rng.normal(0, 12, shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def save_picture(path: Path, pixels: Bytes) -> None:
    """Write a picture in the format of its suffix, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_scan(path: Path, voxels: npt.NDArray[Any]) -> None:
    """Write a NIfTI file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, voxels, SPACING)


def save_json(path: Path, content: object) -> None:
    """Write a JSON file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
