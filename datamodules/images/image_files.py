"""Image and mask files as tensors; each error names the file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lightning_fl.errors import DataError

Pixels = npt.NDArray[np.uint8 | np.uint16]

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L")
IMAGE_MODES = {"1": "L", "LA": "L", "P": "RGB", "RGBA": "RGB", "L": "L", "RGB": "RGB"}
"""What an image of each of Pillow's modes is read as: transparency is dropped."""

MASK_MODES = ("1", "L", "P", *SIXTEEN_BIT)
"""Pillow's modes with one number a pixel; of a palette (P) that is the index, not the colour."""


def read_image(path: Path) -> Tensor:
    """Read an image, float32 (1 or 3, H, W); the largest value of its 8 or 16 bits becomes 1."""
    image = _load(path)
    if image.mode in IMAGE_MODES:
        image = image.convert(IMAGE_MODES[image.mode])
    elif image.mode not in SIXTEEN_BIT:
        raise DataError(
            f"{path} has pixels of Pillow's mode {image.mode!r}; save it as 8- or 16-bit grey or "
            "8-bit colour."
        )
    pixels = _pixels(image)
    scaled = torch.from_numpy(pixels.astype(np.float32)) / float(np.iinfo(pixels.dtype).max)
    return scaled.unsqueeze(0) if scaled.ndim == 2 else scaled.permute(2, 0, 1)


def read_channels(path: Path) -> int:
    """Read the number of channels from the head of an image file."""
    try:
        with Image.open(path) as image:
            return 3 if IMAGE_MODES.get(image.mode) == "RGB" else 1
    except (OSError, UnidentifiedImageError) as error:
        raise _unreadable(path, error) from error


def read_mask(path: Path) -> Pixels:
    """Read a mask's numbers as they are in the file, (H, W)."""
    mask = _load(path)
    if mask.mode not in MASK_MODES:
        raise DataError(
            f"Mask {path} has pixels of Pillow's mode {mask.mode!r}; save masks as 8- or 16-bit "
            "grey with one number a pixel."
        )
    return _pixels(mask)


def class_numbers(mask: Pixels, classes: int, path: Path) -> Tensor:
    """Turn the numbers of a mask file into class numbers, int64 (H, W).

    With `classes` 1, 0 is background and one other number foreground. Else the file has to hold 0
    to classes - 1.

    Raises:
        DataError: the mask holds other numbers.
    """
    if classes == 1:
        foreground = mask != 0
        if (mask[foreground] != mask.max(initial=0)).any():
            raise DataError(
                f"Mask {path} holds {_some(np.unique(mask))}, but a binary mask holds 0 and one "
                "other number. Set `classes` if these are classes; if they are shades of a JPEG or "
                "of a resized mask, save it as PNG with two values."
            )
        return torch.from_numpy(foreground.astype(np.int64))
    wrong = np.unique(mask[mask >= classes])
    if len(wrong):
        raise DataError(
            f"Mask {path} holds {_some(wrong)}, but `classes` is {classes}, which allows 0 to "
            f"{classes - 1}. Set `classes` to 1 for a binary mask, or correct the mask."
        )
    return torch.from_numpy(mask.astype(np.int64))


def _load(path: Path) -> Image.Image:
    """Load the only picture of a file, with all its pixels."""
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1:
                raise DataError(f"{path} has {pages} pages; save each as a file of its own.")
            image.load()
            return image
    # SyntaxError is what Pillow raises for a PNG with a broken chunk.
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read ({error}); copy it again or remove it and its mask.")


def _pixels(image: Image.Image) -> Pixels:
    """Copy pixels as unsigned integers of this machine's byte order."""
    pixels: npt.NDArray[Any] = np.array(image)
    return pixels.astype(np.uint16 if image.mode in SIXTEEN_BIT else np.uint8)


def _some(values: npt.NDArray[Any]) -> str:
    """Name the first few values, for an error."""
    shown = ", ".join(str(value) for value in values[:8].tolist())
    return f"the values [{shown}{', ...' if len(values) > 8 else ''}]"
