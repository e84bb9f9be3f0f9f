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
        _check_one_size(sizes)
        if read.classes == 1:
            _add_foreground(numbers, pair.mask)
            _check_one_foreground(numbers)


def _check_one_size(sizes: dict[tuple[int, ...], Path]) -> None:
    """Images of different sizes cannot share a batch."""
    if len(sizes) > 1:
        (one, path), (other, other_path) = sizes.items()
        raise DataError(
            f"{path} has {one[0]} x {one[1]} pixels, but {other_path} {other[0]} x {other[1]}; set "
            "`size` to resize all images."
        )


def _add_foreground(numbers: dict[int, Path], path: Path) -> None:
    """Note which number a binary mask uses for foreground, if it has any."""
    largest = int(read_mask(path).max())
    if largest:
        numbers.setdefault(largest, path)


def _check_one_foreground(numbers: dict[int, Path]) -> None:
    """Masks that are binary one by one, but with different numbers, may well be classes."""
    if len(numbers) > 1:
        (one, path), (other, other_path) = numbers.items()
        raise DataError(
            f"Mask {path} marks foreground with {one}, but {other_path} with {other}. Set "
            "`classes` if these are classes, or save all masks with the same two numbers."
        )
