"""CT scans and their masks in memory, whichever format they come in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from datamodules.ct.dicom import DicomSeries, open_series
from datamodules.ct.hounsfield import clip, to_int16, warn_of_impossible
from datamodules.ct.nifti import NiftiFile, is_nifti, open_nifti, to_nifti
from datamodules.ct.nifti_mask import read_nifti_mask
from datamodules.ct.segmentation_object import check_segmentation, read_segmentation
from datamodules.ct.space import (
    Affine,
    Orientation,
    Space,
    edges,
    fit_onto,
    inverse,
    reorder,
    to_ras,
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
        affine: from voxels of the file's own array to RAS+ mm, nibabel's convention; so for DICOM
            too, whose own array is (columns, rows, slices).
        shape: of the file's own array.
        orientation: nibabel's transform from the file's own array to RAS+.
        source: file, or folder of a DICOM series.
    """

    hu: npt.NDArray[np.int16]
    spacing: tuple[float, float, float]
    affine: Affine
    shape: tuple[int, int, int]
    orientation: Orientation
    source: Path

    def to_own(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """Turn an array (X, Y, Z, ...) back to the file's own order; a view."""
        return turn(array, inverse(self.orientation))

    def from_own(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """Turn an array in the file's own order to RAS+ (X, Y, Z, ...); a view."""
        return turn(array, self.orientation)

    @property
    def own_spacing(self) -> tuple[float, float, float]:
        """Edges of a voxel in mm along the axes of the file's own array."""
        x, y, z = edges(self.affine).tolist()
        return x, y, z


class ScanFile(Space, Protocol):
    """A scan on disk of which only the header has been read."""

    def slabs(self) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Parts of the last axis and their rescaled values, in the file's own order."""


def read_ct(path: Path) -> CTVolume:
    """Read a CT scan; of a large one, little more than its int16 voxels is ever in memory.

    Values are rounded to whole HU. NaN and infinity become air; values beyond -1024 and 4000 are
    brought to these. Both are reported as a warning, and so is a volume that is not in HU.

    Args:
        path: NIfTI file (.nii, .nii.gz) or folder of one DICOM series.

    Raises:
        DataError: the file or series cannot be used; names it.
    """
    scan = open_scan(path)
    orientation = to_ras(scan.affine)
    hu = np.empty(reorder(scan.shape, orientation), dtype=np.int16)
    as_in_file = turn(hu, inverse(orientation))
    lost = 0
    for part, values in scan.slabs():
        as_in_file[:, :, part], not_finite = to_int16(values)
        lost += not_finite
    warn_of_impossible(hu, path, lost)
    clip(hu)
    x, y, z = edges(scan.affine).tolist()
    spacing = reorder((x, y, z), orientation)
    return CTVolume(hu, spacing, scan.affine, scan.shape, orientation, path)


def open_scan(path: Path) -> ScanFile:
    """Read the headers of a CT scan.

    Raises:
        DataError: there is no such scan, or its headers show that it cannot be used.
    """
    if path.is_dir():
        return open_series(path)
    return _open_nifti(path, "a CT as NIfTI (.nii, .nii.gz) or the folder of a DICOM series")


def header(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine of a CT scan's own array, without reading voxels.

    Raises:
        DataError: as `open_scan`.
    """
    scan = open_scan(path)
    return scan.shape, scan.affine


def check_headers(path: Path, mask: Path | None = None, classes: int | None = None) -> None:
    """Check a CT scan, and that a mask covers it, without reading voxels.

    Args:
        path: the scan.
        mask: its mask, if that is to be checked too.
        classes: as in `read_mask`, where the header of the mask can tell its classes.

    Raises:
        DataError: either cannot be used, or they do not belong together.
    """
    scan = open_scan(path)
    if mask is None:
        return
    if _is_segmentation(mask):
        check_segmentation(mask, _series(scan, mask), classes)
    else:
        fit_onto(_open_mask(mask), scan, may_turn=path.is_dir())


def read_mask(path: Path, ct: CTVolume, classes: int) -> npt.NDArray[np.uint8]:
    """Read the mask of a scan.

    Args:
        path: NIfTI file, or DICOM segmentation (.dcm) for a scan that is a DICOM series. A NIfTI
            mask of a series may have its axes in another order, as conversion leaves them.
        ct: the scan.
        classes: 1 if the mask holds 0 and one other number, which becomes 1; otherwise it holds
            0 to classes - 1 (segments 1 to classes - 1).

    Returns:
        Class numbers in the shape and order of the scan's own array.

    Raises:
        DataError: it lies elsewhere than the scan, has other classes or is damaged; names it.
    """
    if _is_segmentation(path):
        return read_segmentation(path, _series(open_scan(ct.source), path), classes)
    return read_nifti_mask(_open_mask(path), ct, classes, may_turn=ct.source.is_dir())


def save_mask(mask: npt.NDArray[np.uint8], ct: CTVolume, path: Path) -> None:
    """Write a mask as NIfTI in the scan's own space, in one step.

    Args:
        mask: class numbers in the shape and order of the scan's own array.
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


def _is_segmentation(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _series(scan: ScanFile, mask: Path) -> DicomSeries:
    if not isinstance(scan, DicomSeries):
        raise DataError(
            f"{mask} is a DICOM segmentation, but its CT {scan.source} is no DICOM series; give "
            "the series' folder, or convert the mask to NIfTI."
        )
    return scan


def _open_mask(path: Path) -> NiftiFile:
    return _open_nifti(path, "a mask as NIfTI (.nii, .nii.gz) or DICOM segmentation (.dcm)")


def _open_nifti(path: Path, expected: str) -> NiftiFile:
    if not path.exists():
        raise DataError(f"There is no {path}; expected {expected}.")
    if not is_nifti(path) or path.is_dir():
        raise DataError(f"Cannot tell what {path} is; expected {expected}.")
    return open_nifti(path)
