"""CT scans and their masks in memory, whichever format they come in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from datamodules.ct.dicom import DicomSeries, open_series
from datamodules.ct.hounsfield import limit, to_int16
from datamodules.ct.nifti import NiftiFile, is_nifti, open_nifti, to_nifti
from datamodules.ct.nifti_mask import read_nifti_mask
from datamodules.ct.segmentation_object import read_segmentation
from datamodules.ct.space import (
    Affine,
    Orientation,
    PlacedArray,
    edges,
    inverse,
    orientation_to_ras,
    reorder,
    turn,
)
from lightning_fl.errors import DataError
from lightning_fl.files import write_bytes

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class CTVolume:
    """A CT scan in memory, its axes turned to RAS+.

    The first axis goes from the patient's left to the right, the second from back to front, the
    third from feet to head. An oblique scan is turned to the nearest such order and not resampled:
    its axes stay those of its voxels.

    Attributes:
        hu: (X, Y, Z) in RAS+ and contiguous; whole HU within -1024 and 4000.
        spacing: edges of a voxel in mm along X, Y and Z.
        affine: from voxels of the file's array to RAS+ mm, nibabel's convention; so for DICOM too,
            whose array is (columns, rows, slices).
        shape: of the file's array.
        orientation: nibabel's transform from the file's array to RAS+.
        source: file, or folder of a DICOM series.
    """

    hu: npt.NDArray[np.int16]
    spacing: tuple[float, float, float]
    affine: Affine
    shape: tuple[int, int, int]
    orientation: Orientation
    source: Path

    def from_ras(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """View an array (X, Y, Z, ...) in the order of the file."""
        return turn(array, inverse(self.orientation))

    def to_ras(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """View an array in the order of the file as (X, Y, Z, ...) in RAS+."""
        return turn(array, self.orientation)

    @property
    def file_spacing(self) -> tuple[float, float, float]:
        """Edges of a voxel in mm along the axes of the file's array."""
        x, y, z = edges(self.affine).tolist()
        return x, y, z


class ScanFile(PlacedArray, Protocol):
    """A scan on disk of which only the header has been read."""

    def slabs(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Yield parts of the last axis and their rescaled values, in the order of the file."""


def read_ct(path: Path) -> CTVolume:
    """Read a CT scan; of a large one, little more than its int16 voxels is ever in memory.

    Values are rounded to whole HU. NaN and infinity become air. Values beyond -1024 and 4000 are
    brought to these. A warning reports both, and a volume that is not in HU.

    Args:
        path: NIfTI file (.nii, .nii.gz) or folder of one DICOM series.

    Raises:
        DataError: the file or series cannot be used; names it.
    """
    scan = _open_scan(path)
    orientation = orientation_to_ras(scan.affine)
    hu = np.empty(reorder(scan.shape, orientation), dtype=np.int16)
    as_in_file = turn(hu, inverse(orientation))
    lost = 0
    for part, values in scan.slabs():
        as_in_file[:, :, part], not_finite = to_int16(values)
        lost += not_finite
    limit(hu, path, lost)
    x, y, z = edges(scan.affine).tolist()
    spacing = reorder((x, y, z), orientation)
    return CTVolume(hu, spacing, scan.affine, scan.shape, orientation, path)


def read_mask(path: Path, ct: CTVolume, classes: int) -> npt.NDArray[np.uint8]:
    """Read the mask of a scan.

    Args:
        path: NIfTI file, or DICOM segmentation (.dcm) for a scan that is a DICOM series. A NIfTI
            mask of a series may have its axes in another order, as conversion leaves them.
        ct: the scan.
        classes: 1 if the mask holds 0 and one other number, which becomes 1; otherwise it holds
            0 to classes - 1 (segments 1 to classes - 1).

    Returns:
        Class numbers in the shape and order of the scan's file.

    Raises:
        DataError: it lies elsewhere than the scan, has other classes or is damaged; names it.
    """
    if path.suffix.lower() != ".dcm":
        file = _open_nifti(path, "a mask as NIfTI (.nii, .nii.gz) or DICOM segmentation (.dcm)")
        return read_nifti_mask(file, ct, classes, may_turn=ct.source.is_dir())
    series = _open_scan(ct.source)
    if not isinstance(series, DicomSeries):
        raise DataError(
            f"{path} is a DICOM segmentation, but its CT {ct.source} is no DICOM series; give "
            "the series' folder, or convert the mask to NIfTI."
        )
    return read_segmentation(path, series, classes)


def save_mask(mask: npt.NDArray[np.uint8], ct: CTVolume, path: Path) -> None:
    """Write a mask as NIfTI in the scan's space, in one step.

    Args:
        mask: class numbers in the shape and order of the scan's file.
        ct: the scan.
        path: file to write (.nii or .nii.gz) in a folder that exists.

    Raises:
        DataError: the mask has another shape than the scan, or the name another suffix.
        OSError: the file cannot be written.
    """
    if mask.shape != ct.shape:
        raise DataError(
            f"Expected a mask for {path} of the shape {ct.shape} of {ct.source}, but got "
            f"{mask.shape}."
        )
    if not is_nifti(path):
        raise DataError(f"Expected a name ending in .nii or .nii.gz for a mask, but got {path}.")
    write_bytes(path, to_nifti(mask, ct.affine, compress=path.suffix.lower() == ".gz"))


def _open_scan(path: Path) -> ScanFile:
    if path.is_dir():
        return open_series(path)
    return _open_nifti(path, "a CT as NIfTI (.nii, .nii.gz) or the folder of a DICOM series")


def _open_nifti(path: Path, expected: str) -> NiftiFile:
    if not path.exists():
        raise DataError(f"There is no {path}; expected {expected}.")
    if not is_nifti(path) or path.is_dir():
        raise DataError(f"Cannot tell what {path} is; expected {expected}.")
    return open_nifti(path)
