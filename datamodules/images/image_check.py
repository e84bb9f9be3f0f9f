"""Everything that training would stumble over in a hospital's images, found before it starts."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.images.image_files import read_mask, size_of
from datamodules.images.image_samples import ImageReader
from datamodules.index.row import Row
from datamodules.targets import ClassNumbers
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import DataError

_log = logging.getLogger(__name__)


def check_rows(site: str, rows: Sequence[Row], read: ImageReader) -> None:
    """Read each of a hospital's rows, and compare what all of them need in common.

    Warns of constant images, of masks without background, and of a hospital without foreground.

    Raises:
        DataError: the first file that cannot be used, or two files that do not go together.
    """
    reference: torch.Tensor | None = None
    numbers: dict[int, Path] = {}
    constant: list[Path] = []
    full: list[Path] = []
    empty: list[Path] = []
    for row in rows:
        sample = read(row)
        image, mask = sample["image"], sample.get("mask")
        reference = image if reference is None else reference
        if image.shape != reference.shape:  # they cannot share a batch
            raise DataError(
                f"{rows[0].images[0]} has {size_of(reference)} pixels, but {row.images[0]} "
                f"{size_of(image)}; set `size` to resize all images."
            )
        if image.amax() == image.amin():
            constant.append(row.images[0])
        if mask is None or row.mask is None:
            continue
        counted = mask[mask != IGNORE]
        if not counted.any():
            empty.append(row.mask)
        elif counted.all():
            full.append(row.mask)
        if isinstance(read.target, ClassNumbers) and read.target.classes == 1:
            _check_foreground(numbers, row.mask, read.target.ignore)
    _warn(site, constant, len(rows), "images have one value everywhere, so they show nothing.")
    doubt = "are the values of `target` right?"
    _warn(site, full, len(rows), f"masks are foreground everywhere; {doubt}")
    if len(empty) == len(rows):  # a mask without foreground may well be right
        _warn(site, empty, len(rows), f"masks have no foreground; {doubt}")


def _check_foreground(numbers: dict[int, Path], path: Path, ignore: Sequence[int]) -> None:
    """Raise a DataError for masks that are binary with different numbers: they may be classes."""
    values = read_mask(path)
    largest = int(values.max(initial=0, where=~np.isin(values, [*ignore])))
    if largest:
        numbers.setdefault(largest, path)
    if len(numbers) > 1:
        (number, first_path), (other, other_path) = numbers.items()
        raise DataError(
            f"Mask {first_path} marks foreground with {number}, but {other_path} with {other}. Set "
            "`classes` if these are classes, or save all masks with the same two numbers."
        )


def _warn(site: str, paths: Sequence[Path], count: int, what: str) -> None:
    if paths:
        _log.warning(
            "Site %r: %d of %d %s The first is %s.", site, len(paths), count, what, paths[0]
        )
