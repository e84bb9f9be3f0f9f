"""NIfTI files by nibabel.

SimpleITK would read them too, but it fills a file that was cut off with zeros without a word.
"""

import gzip
import zlib
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from datamodules.readers.space import Affine
from lightning_fl.errors import DataError

SLAB = 2**20
"""Voxels read at once, about: 8 MB where they have to be rescaled in double precision."""

MILLIMETRES = {1: 1000.0, 3: 0.001}
"""Length of the header's units, metre and micron; everything else is taken as mm."""

_DAMAGE = (
    *(ImageFileError, HeaderDataError, HeaderTypeError),
    *(OSError, EOFError, ValueError, zlib.error),
)


def read_nifti(path: Path) -> tuple[npt.NDArray[Any], Affine]:
    """Read a NIfTI file (.nii or .nii.gz).

    Returns:
        Rescaled values (C, i, j, k) in the order of the file, and the affine from (i, j, k) to RAS+
        mm. A fourth axis of the file becomes the channels.

    Raises:
        DataError: it is damaged or cut off, has fewer than three dimensions or more than four, or
            holds colours or complex numbers.
    """
    try:
        kind: Any = type(nib.load(path))
        if not issubclass(kind, nib.Nifti1Image):
            raise DataError(f"{path} is no NIfTI file but {kind.__name__}; convert it.")
        with _open(path) as file:
            image = kind.from_stream(file)
            values = _values(cast(ArrayProxy, image.dataobj), path)
            while file.read(2**20):  # to the end, where gzip compares its checksum
                pass
            affine = np.array(image.affine, dtype=np.float64)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"Cannot read {path} as NIfTI ({error}); it may be cut off or damaged. Export it anew."
        ) from error
    affine[:3] *= MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    return values, affine


def to_nifti(mask: npt.NDArray[np.uint8], affine: Affine, *, compress: bool) -> bytes:
    """Return the content of a mask's NIfTI file; equal masks give equal bytes."""
    image = nib.Nifti1Image(mask, affine)  # type: ignore[no-untyped-call]
    # 1 stands for the scanner's coordinates.
    image.set_sform(affine, code=1)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code=1)  # type: ignore[no-untyped-call]
    content = image.to_bytes()
    return gzip.compress(content, compresslevel=6, mtime=0) if compress else content


def _values(proxy: ArrayProxy, path: Path) -> npt.NDArray[Any]:
    """Read the values a few slices at a time, so that no second copy is in memory."""
    stored = np.dtype(proxy.dtype).newbyteorder("=")
    if stored.kind not in "iuf":
        raise DataError(f"{path} holds {stored} and not one real number a voxel; convert it.")
    shape = tuple(int(n) for n in proxy.shape)
    channels = [n for n in shape[3:] if n != 1] or [1]
    if len(shape) < 3 or len(channels) > 1 or min(shape) < 1:
        raise DataError(
            f"{path} has shape {shape}; expected three dimensions, or four with the channels last. "
            "Store one volume in a file."
        )
    scaled = (float(proxy.slope), float(proxy.inter)) != (1.0, 0.0)
    dtype = np.dtype(np.float32) if scaled or stored.itemsize > 4 else stored
    i, j, k = shape[:3]
    values = np.empty((channels[0], k, j, i), dtype).transpose(0, 3, 2, 1)  # as in the file
    voxels = proxy.reshape((i, j, k, channels[0]))  # type: ignore[no-untyped-call]
    step = max(1, SLAB // (i * j))
    for channel in range(channels[0]):
        for start in range(0, k, step):
            part = slice(start, min(start + step, k))
            values[channel, :, :, part] = voxels[:, :, part, channel]
    return values


def _open(path: Path) -> IO[bytes]:
    packed = path.name.lower().endswith(".gz")
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")
