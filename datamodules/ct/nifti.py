"""NIfTI files: header and voxels, a few slices at a time."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from datamodules.ct.space import Affine, check_affine
from lightning_fl.errors import DataError

SUFFIXES = (".nii", ".nii.gz")

SLAB = 2**20
"""Voxels read at once, about: 8 MB where they have to be rescaled in double precision."""

_DAMAGE = (ImageFileError, HeaderDataError, HeaderTypeError, OSError, EOFError, zlib.error)


def is_nifti(path: Path) -> bool:
    """Tell whether a file's name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI volume on disk.

    Attributes:
        source: the file.
        shape: of its array.
        affine: of its array.
        dtype: of the stored numbers, byte order included.
        offset: of the first voxel, in bytes.
        slope: factor of the stored numbers.
        intercept: is added then.
    """

    source: Path
    shape: tuple[int, int, int]
    affine: Affine
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    def slabs(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Yield which slices of the last axis, a few at a time, and their rescaled values.

        Raises:
            DataError: the file is damaged or cut off.
        """
        columns, rows, slices = self.shape
        step = max(1, SLAB // (columns * rows))
        try:
            with _open(self.source) as file:
                file.seek(self.offset)
                for start in range(0, slices, step):
                    part = slice(start, min(start + step, slices))
                    count = columns * rows * (part.stop - part.start)
                    raw = np.frombuffer(_exactly(file, count * self.dtype.itemsize), self.dtype)
                    yield part, self._rescaled(raw.reshape((columns, rows, -1), order="F"))
                while file.read(2**20):  # to the end, where gzip compares its checksum
                    pass
        except _DAMAGE as error:
            raise _unreadable(self.source, error) from error

    def _rescaled(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        return values.astype(np.float64) * self.slope + self.intercept


def open_nifti(path: Path) -> NiftiFile:
    """Read the header of a NIfTI file (.nii or .nii.gz).

    Raises:
        DataError: it is damaged, has not three dimensions (further ones of length 1 are dropped),
            holds colours or complex numbers, or its voxels have no size or are sheared.
    """
    try:
        image = nib.load(path)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise DataError(f"{path} is no NIfTI file but {type(image).__name__}; convert it.")
    proxy = cast(ArrayProxy, image.dataobj)
    dtype = np.dtype(proxy.dtype)
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype} and not one real number a voxel; convert it.")
    affine = np.asarray(image.affine, dtype=np.float64)
    check_affine(affine, path)
    shape = _three_dimensions(tuple(int(n) for n in proxy.shape), path)
    slope, intercept = float(proxy.slope), float(proxy.inter)
    return NiftiFile(path, shape, affine, dtype, int(proxy.offset), slope, intercept)


def to_nifti(mask: npt.NDArray[np.uint8], affine: Affine, *, compress: bool) -> bytes:
    """Return the content of a mask's NIfTI file; equal masks give equal bytes."""
    image = nib.Nifti1Image(mask, affine)  # type: ignore[no-untyped-call]
    # 1 stands for the scanner's coordinates.
    image.set_sform(affine, code=1)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code=1)  # type: ignore[no-untyped-call]
    content = image.to_bytes()
    return gzip.compress(content, compresslevel=6, mtime=0) if compress else content


def _three_dimensions(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise DataError(
            f"{path} has shape {shape}; expected three dimensions. Store one volume in a file."
        )
    return shape[0], shape[1], shape[2]


def _open(path: Path) -> IO[bytes]:
    packed = path.name.lower().endswith(".gz")
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError(f"it ends {size - len(content)} bytes too early, or earlier")
    return content


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"Cannot read {path} as NIfTI ({error}); it may be cut off or damaged.")
