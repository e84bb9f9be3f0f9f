"""One picture with a few images of each hospital, their masks outlined or labels written below."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_fl.data.module import IGNORE, FederatedDataModule
from lightning_fl.data.summary import spread
from lightning_fl.results.report.slice_pictures import picture_of

SHEET = "contact_sheet.png"
TILE, TEXT, MARGIN = 192, 16, 8
"""Pixels of an image's side, of a line of text, and between images."""
COLUMNS = 6
"""Images of a hospital."""
COLOURS = ("#ffd000", "#ff4d8d", "#3cd0ff", "#7dff5a", "#ff9a3c", "#b99cff")
"""Of the outlines of classes 1, 2, ... or of regions."""


def write_contact_sheet(
    folder: Path, data: FederatedDataModule, sites: Sequence[str], seed: int
) -> Path | None:
    """Write the first part of a hospital that has images, of each hospital, a row each.

    Args:
        folder: where the picture goes; made if it is not there.
        data: of the run.
        sites: hospitals to show.
        seed: of the run, for their splits.

    Returns:
        The picture's file, or None where samples are no images.
    """
    rows = {site: tiles for site in sites if (tiles := [*_tiles(data, site, seed)])}
    if not rows:
        return None
    step = TILE + MARGIN
    height = step + TEXT
    sheet = Image.new("RGB", (COLUMNS * step + MARGIN, len(rows) * (height + TEXT)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (site, tiles) in enumerate(rows.items()):
        top = number * (height + TEXT)
        pen.text((MARGIN, top + 2), site, fill="black")
        for column, (tile, text) in enumerate(tiles):
            left = MARGIN + column * step
            sheet.paste(tile, (left, top + TEXT))
            pen.text((left, top + TEXT + TILE + 2), text, fill="black")
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / SHEET, optimize=True)
    return folder / SHEET


def _tiles(data: FederatedDataModule, site: str, seed: int) -> Iterator[tuple[Image.Image, str]]:
    """Draw training images of a hospital, or test images where none trains."""
    bound = data.for_site(site, seed)
    split = bound.split(site)
    dataset: Any = bound.dataset(site, split.train or split.test, augment=False)
    samples = [s for s in spread(dataset, 10 * COLUMNS) if isinstance(s, Mapping) and "image" in s]
    shown = [s for s in samples if "mask" in s and _layers(s["mask"]).any()] or samples
    for sample in spread(shown, COLUMNS):
        if sample["image"].ndim != 3:  # whole volumes
            return
        [picture] = bound.pictures(sample["image"][None])
        layers = _layers(sample["mask"]) if "mask" in sample else np.zeros((0, 1, 1), bool)
        yield _tile(picture.numpy(), layers), _caption(sample)


def _tile(image: NDArray[np.float32], layers: NDArray[np.bool_]) -> Image.Image:
    """Draw an image with an outline around each layer, (N, H, W)."""
    tile = Image.new("RGB", (TILE, TILE), "#dddddd")
    picture = picture_of(image).convert("RGB")
    width, height = picture.size
    scale = TILE / max(width, height)
    picture = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    tile.paste(picture)
    pen = ImageDraw.Draw(tile)
    for number, layer in enumerate(layers):
        # A rim of background closes the outlines of what touches the border.
        padded = np.pad(layer.astype(float), 1)
        for line in contour_generator(z=padded).lines(0.5):
            points = [(float(x - 0.5) * scale, float(y - 0.5) * scale) for x, y in np.asarray(line)]
            pen.line(points, fill=COLOURS[number % len(COLOURS)], width=2)
    return tile


def _layers(mask: Tensor) -> NDArray[np.bool_]:
    """Return each class of the foreground, or each region, as (N, H, W)."""
    numbers = mask.numpy()
    if numbers.ndim == 3:
        return np.asarray(numbers == 1)
    classes = range(1, int(numbers.max(initial=0, where=numbers != IGNORE)) + 1)
    return np.stack([numbers == k for k in classes]) if classes else np.zeros((0, 1, 1), bool)


def _caption(sample: Mapping[str, Tensor]) -> str:
    if "label" not in sample:
        return ""
    label = sample["label"]
    return f"label {label.tolist() if label.ndim else int(label)}"
