"""Arrays of .npy and .npz files."""

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.index.files import split_npz
from lightning_fl.errors import DataError

IMAGE_KEYS = ("image", "images", "img", "data")
MASK_KEYS = ("mask", "label", "masks", "seg")
"""What arrays of an .npz file are called where the path names none."""


def read_array(path: Path, keys: tuple[str, ...]) -> npt.NDArray[Any]:
    """Read an array.

    Args:
        path: a .npy or .npz file; `x.npz/key` is an array of it, `x.npz/key/3` its element 3.
        keys: names of the array to take from an .npz file where the path has none. The only array
            of a file may have any name.

    Raises:
        DataError: the file cannot be used; names it.
    """
    file, names = split_npz(path)
    try:
        if len(names) == 2:  # an element of a data set in one file
            return np.asarray(_stack(file, names[0])[int(names[1])])
        opened: Any = np.load(file, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return opened
        return _chosen(opened, file, names or keys, named=bool(names))
    except DataError:
        raise
    except (
        *(OSError, ValueError, EOFError, KeyError, IndexError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise DataError(
            f"{path} cannot be read ({error}); it may be cut off or damaged. Copy it again, or "
            "remove it and its mask."
        ) from error


def _chosen(arrays: Any, file: Path, keys: tuple[str, ...], *, named: bool) -> npt.NDArray[Any]:
    """Return the array with the first of these names or, if the path has none, the only one."""
    with arrays:
        there = list(arrays)
        others = there if len(there) == 1 and not named else []
        for key in [*filter(there.__contains__, keys), *others]:
            return np.asarray(arrays[key])
    raise DataError(
        f"{file} holds the arrays {there}; call one {keys[0]!r}, or name one in the path, e.g. "
        f"{file}/{there[0]}."
        if there
        else f"{file} holds no array; write it anew."
    )


@lru_cache(maxsize=8)
def _stack(file: Path, key: str) -> npt.NDArray[Any]:
    """Load all images of a data set, which a compressed file gives only together."""
    with np.load(file, allow_pickle=False) as arrays:
        stack: npt.NDArray[Any] = arrays[key]
        return stack
