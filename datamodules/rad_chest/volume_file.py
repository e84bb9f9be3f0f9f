"""Volumes of RAD-ChestCT: int16 Hounsfield units under the key `ct` of a .npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.normalisation.hounsfield import limit
from lightning_fl.errors import DataError

KEY = "ct"

Volume = npt.NDArray[np.int16]


def read_volume(path: Path) -> Volume:
    """Read HU (slices, height, width); values that no tissue has are clipped, with a warning.

    Raises:
        DataError: the file cannot be used.
    """
    array = _read(path)
    if array.dtype != np.int16:
        raise DataError(
            f"{path}: `{KEY}` is {array.dtype}, but expected int16 with whole Hounsfield units. "
            "If it holds HU, store np.round(ct).astype(np.int16); if it was scaled, e.g. to "
            "[0, 1], take the original."
        )
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            f"{path}: `{KEY}` has the shape {array.shape}, but expected (slices, height, width)."
        )
    volume = array.astype(np.int16, copy=False)
    limit(volume, path)
    return volume


def _read(path: Path) -> npt.NDArray[np.generic]:
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise DataError(f"{path} is a single array, no .npz; use np.savez_compressed.")
        with opened:
            if KEY not in opened:
                raise DataError(
                    f"{path} has no array `{KEY}`; it holds {', '.join(map(repr, opened.files))}. "
                    f"Store the volume as np.savez_compressed(path, {KEY}=volume)."
                )
            array: npt.NDArray[np.generic] = opened[KEY]
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"Cannot read {path} ({error}). It may be cut off or no .npz; fetch it again."
        ) from error
    return array
