"""Image and mask files as tensors and arrays; each error names the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.index.files import ARRAYS, split_npz
from datamodules.readers.arrays import IMAGE_KEYS, MASK_KEYS, read_array
from lightning_fl.errors import DataError

Pixels = npt.NDArray[Any]

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L")
IMAGE_MODES = {"1": "L", "LA": "L", "P": "RGB", "RGBA": "RGB", "L": "L", "RGB": "RGB"}
"""What an image of each of Pillow's modes is read as: transparency is dropped."""

MASK_MODES = {"1": "1", "LA": "L", "P": "P", "RGBA": "RGB", "L": "L", "RGB": "RGB"}
"""The same for a mask: of a palette (P) the index counts, not the colour."""

ORIENTED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
"""Where Pillow keeps what may hold an orientation; it turns TIFF files by itself."""


def read_image(path: Path) -> Tensor:
    """Read an image, float32 (C, H, W).

    The largest value of 8 or 16 bits without sign becomes 1; other arrays keep their values, and
    their smaller end of the shape counts the channels. A picture is turned as its EXIF orientation
    says.

    Raises:
        DataError: the file cannot be used.
    """
    pixels = _array(path, IMAGE_KEYS) if _is_array(path) else _picture(path, IMAGE_MODES)
    scaled = torch.from_numpy(pixels.astype(np.float32))
    if pixels.dtype in (np.uint8, np.uint16):
        scaled /= float(np.iinfo(pixels.dtype).max)
    elif not torch.isfinite(scaled).all():
        raise DataError(f"{path} holds NaN or infinity; write numbers there, e.g. 0.")
    return scaled.unsqueeze(0) if scaled.ndim == 2 else scaled.permute(2, 0, 1)


def read_channels(paths: Sequence[Path]) -> Tensor:
    """Read files one after the other as channels, float32 (C, H, W).

    Raises:
        DataError: a file cannot be used, or their sizes differ.
    """
    images = [read_image(path) for path in paths]
    for path, image in zip(paths[1:], images[1:], strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{paths[0]} has {size_of(images[0])} pixels, but {path}, another channel of "
                f"it, {size_of(image)}; save all channels in one size."
            )
    return images[0] if len(images) == 1 else torch.cat(images)


def size_of(image: Tensor) -> str:
    """Return height and width, e.g. "64 x 48"."""
    return " x ".join(str(n) for n in image.shape[-2:])


def read_mask(path: Path) -> Pixels:
    """Read a mask's numbers as they are in the file, (H, W).

    Raises:
        DataError: the file cannot be used, or it holds colours.
    """
    pixels = _array(path, MASK_KEYS).squeeze() if _is_array(path) else _picture(path, MASK_MODES)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]  # grey that was saved as colour
    if pixels.ndim != 2:
        raise DataError(
            f"Mask {path} has more than one number a pixel, shape {pixels.shape}; save masks as 8- "
            "or 16-bit grey."
        )
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _is_array(path: Path) -> bool:
    return split_npz(path)[0].suffix.lower() in ARRAYS


def _picture(path: Path, modes: dict[str, str]) -> Pixels:
    """Load the only picture of a file, (H, W) or (H, W, 3)."""
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and image.format != "MPO":  # a photo with a preview
                raise DataError(f"{path} has {pages} pages; save each as a file of its own.")
            deep = any(";16" in str(tile[-1]) for tile in image.tile)  # Pillow would make 8 of 16
            if image.mode in ("F", "I") or (deep and image.mode in ("RGB", "RGBA")):
                return _deep_picture(path)
            image.load()
            if ORIENTED & image.info.keys():  # asking each file costs a fifth of its reading
                ImageOps.exif_transpose(image, in_place=True)
    # SyntaxError is what Pillow raises for a PNG with a broken chunk.
    except (
        *(OSError, SyntaxError, EOFError, Image.DecompressionBombError),
        RuntimeError,  # of SimpleITK
    ) as error:
        raise DataError(
            f"{path} cannot be read ({error}); copy it again or remove it and its mask."
        ) from error
    if image.mode in SIXTEEN_BIT:
        return np.array(image).astype(np.uint16)  # of this machine's byte order
    if image.mode not in modes:
        raise DataError(
            f"{path} has pixels of Pillow's mode {image.mode!r}; save it as 8- or 16-bit grey or "
            "8-bit colour."
        )
    mode = modes[image.mode]
    return np.array(image if image.mode == mode else image.convert(mode))


def _deep_picture(path: Path) -> Pixels:
    """Load what Pillow has no mode for: 16 bits of each colour, 32 bits, and floats."""
    pixels: Pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return pixels[..., :3] if pixels.ndim == 3 else pixels  # transparency is dropped


def _array(path: Path, keys: tuple[str, ...]) -> Pixels:
    """Load an array of numbers, (H, W), (H, W, C) or (C, H, W)."""
    array = read_array(path, keys)
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif" or not array.size:
        raise DataError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}; expected "
            "numbers (H, W), (H, W, C) or (C, H, W)."
        )
    channels_first = array.ndim == 3 and array.shape[0] < array.shape[2]
    return np.moveaxis(array, 0, 2) if channels_first else array
