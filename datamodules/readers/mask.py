"""Masks of scans: numbers of a file as classes on the scan's own voxels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.nifti import to_nifti
from datamodules.readers.segmentation import read_segmentation
from datamodules.readers.space import fit_onto, turn
from datamodules.readers.volume import ScanVolume, read_volume
from lightning_fl.errors import DataError
from lightning_fl.files import write_bytes

NOISE = 1e-3
"""Distance of a number from a whole one that rescaling and single precision leave."""


def read_mask(path: Path, scan: ScanVolume, classes: int) -> npt.NDArray[np.uint8]:
    """Read the mask of a scan.

    Args:
        path: file of any format that `read_volume` reads, or a DICOM segmentation (.dcm) of a scan
            that is a DICOM series. Its axes may be swapped or reversed against the scan's.
        scan: the scan.
        classes: 1 if the mask holds 0 and one other number, which becomes 1; otherwise it holds
            0 to classes - 1 (segments 1 to classes - 1).

    Returns:
        Class numbers in the shape and order of the scan's file.

    Raises:
        DataError: it lies elsewhere than the scan, has other classes or is damaged; names it.
    """
    if path.suffix.lower() == ".dcm":
        return read_segmentation(path, scan.source, classes)
    volume = read_volume(path)
    if len(volume.values) > 1:
        raise DataError(f"Mask {path} has {len(volume.values)} channels, but a mask needs one.")
    onto = fit_onto(volume, scan, "Mask")
    return _class_numbers(turn(volume.from_ras(volume.values[0]), onto), path, classes)


def save_mask(mask: npt.NDArray[np.uint8], scan: ScanVolume, path: Path) -> None:
    """Write a mask as NIfTI in the scan's space, in one step.

    Args:
        mask: class numbers in the shape and order of the scan's file.
        scan: the scan.
        path: file to write (.nii or .nii.gz) in a folder that exists.

    Raises:
        DataError: the mask has another shape than the scan, or the name another suffix.
        OSError: the file cannot be written.
    """
    if mask.shape != scan.shape:
        raise DataError(
            f"Expected a mask for {path} of the shape {scan.shape} of {scan.source}, but got "
            f"{mask.shape}."
        )
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(f"Expected a name ending in .nii or .nii.gz for a mask, but got {path}.")
    write_bytes(path, to_nifti(mask, scan.affine, compress=path.suffix.lower() == ".gz"))


def _class_numbers(values: npt.NDArray[Any], path: Path, classes: int) -> npt.NDArray[np.uint8]:
    """Turn numbers (i, j, k) into classes slice by slice, and check them."""
    planes = np.moveaxis(values, 2, 0)
    drawn: set[float] = set()
    for plane in map(_without_noise, planes):
        drawn.update(np.unique(plane[plane != 0]).tolist())
        if len(drawn) > classes:
            break  # wrong for sure: a scan given as a mask has thousands of numbers
    _check_numbers(drawn, path, classes)
    mask = np.empty(values.shape, dtype=np.uint8, order="F")
    for index, plane in enumerate(map(_without_noise, planes)):
        mask[:, :, index] = plane != 0 if classes == 1 else plane
    return mask


def _without_noise(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if numbers.dtype.kind != "f":
        return numbers
    whole = np.rint(numbers)
    return np.where(np.abs(numbers - whole) <= NOISE, whole, numbers)


def _check_numbers(drawn: set[float], path: Path, classes: int) -> None:
    """Raise DataError if the numbers beside 0 are not the classes expected."""
    if classes == 1:
        wrong = len(drawn) > 1 or not all(np.isfinite(value) for value in drawn)
        expected = "0 and one other number"
    else:
        wrong = not drawn <= {float(number) for number in range(1, classes)}
        expected = f"whole numbers from 0 to {classes - 1}"
    if wrong:
        numbers = ", ".join(f"{value:g}" for value in sorted(drawn)[:6])
        raise DataError(
            f"Mask {path} holds {numbers}{' and others' * (len(drawn) > 6)} beside 0, but "
            f"expected {expected}; set `classes` to what it holds or relabel it."
        )
