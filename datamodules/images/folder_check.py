"""Everything that training would stumble over in a hospital's files, found before it starts."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.images.folder_index import ImagePair
from datamodules.images.image_files import read_mask
from datamodules.images.image_pairs import PairReader
from lightning_fl.errors import DataError


def check_pairs(pairs: Sequence[ImagePair], read: PairReader) -> None:
    """Read each of a hospital's pairs, and compare what all of them need in common.

    Raises:
        DataError: the first file that cannot be used, or two files that do not go together.
    """
    sizes: dict[tuple[int, ...], Path] = {}
    numbers: dict[int, Path] = {}
    for pair in pairs:
        sizes.setdefault(tuple(read(pair)["mask"].shape), pair.image)
        if len(sizes) > 1:  # they cannot share a batch
            (size, path), (other, other_path) = sizes.items()
            raise DataError(
                f"{path} has {size[0]} x {size[1]} pixels, but {other_path} {other[0]} x "
                f"{other[1]}; set `size` to resize all images."
            )
        if read.classes == 1:
            _check_foreground(numbers, pair.mask)


def _check_foreground(numbers: dict[int, Path], path: Path) -> None:
    """Raise a DataError for masks that are binary with different numbers: they may be classes."""
    largest = int(read_mask(path).max())
    if largest:
        numbers.setdefault(largest, path)
    if len(numbers) > 1:
        (number, first_path), (other, other_path) = numbers.items()
        raise DataError(
            f"Mask {first_path} marks foreground with {number}, but {other_path} with {other}. Set "
            "`classes` if these are classes, or save all masks with the same two numbers."
        )
