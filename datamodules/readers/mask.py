"""Masks of scans: numbers of a file as classes on the scan's own voxels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.index.files import SEGMENTATION
from datamodules.readers.arrays import MASK_KEYS
from datamodules.readers.nifti import to_nifti
from datamodules.readers.segmentation import read_segmentation, to_segmentation
from datamodules.readers.space import fit_onto, turn
from datamodules.readers.volume import ScanVolume, read_volume
from datamodules.targets import MaskTarget
from lightning_fl.errors import DataError
from lightning_fl.files import write_bytes

NOISE = 1e-3
"""Distance of a number from a whole one that rescaling and single precision leave."""

MOST = 1000
"""Numbers after which no more are looked for: a scan given as a mask has thousands."""


def read_mask(path: Path, scan: ScanVolume, target: MaskTarget) -> npt.NDArray[np.uint8]:
    """Read the mask of a scan.

    Args:
        path: file of any format that `read_volume` reads, or a DICOM segmentation (.dcm) of a scan
            that is a DICOM series, whose numbers are those of its segments. Its axes may be swapped
            or reversed against the scan's.
        scan: the scan.
        target: makes classes or regions of the mask's numbers.

    Returns:
        Classes in the shape and order of the scan's file, with an axis of regions before these if
        the target has regions.

    Raises:
        DataError: it lies elsewhere than the scan, has other numbers or is damaged; names it.
    """
    if path.suffix.lower() == SEGMENTATION:
        return _classes(read_segmentation(path, scan.source, target), path, target)
    volume = read_volume(path, MASK_KEYS)
    if len(volume.values) > 1:
        raise DataError(f"Mask {path} has {len(volume.values)} channels, but a mask needs one.")
    onto = fit_onto(volume, scan, "Mask")
    return _classes(turn(volume.from_ras(volume.values[0]), onto), path, target)


def save_mask(mask: npt.NDArray[np.uint8], scan: ScanVolume, path: Path) -> None:
    """Write a mask as NIfTI, or as DICOM segmentation of a series, in one step.

    Args:
        mask: class numbers in the shape and order of the scan's file.
        scan: the scan.
        path: file to write (.nii, .nii.gz or .dcm) in a folder that exists.

    Raises:
        DataError: the mask has another shape than the scan, the name another suffix, or the series
            lacks what a segmentation needs.
        OSError: the file cannot be written.
    """
    if mask.shape != scan.shape:
        raise DataError(
            f"Expected a mask for {path} of the shape {scan.shape} of {scan.source}, but got "
            f"{mask.shape}."
        )
    name, series = path.name.lower(), scan.source.is_dir()
    if not name.endswith((".nii", ".nii.gz", *([SEGMENTATION] if series else []))):
        raise DataError(
            f"Expected a name ending in .nii or .nii.gz for a mask, or in {SEGMENTATION} for one "
            f"of a DICOM series, but got {path}."
        )
    if name.endswith(SEGMENTATION):
        write_bytes(path, to_segmentation(mask, scan.source))
    else:
        write_bytes(path, to_nifti(mask, scan.affine, compress=name.endswith(".gz")))


def _classes(values: npt.NDArray[Any], path: Path, target: MaskTarget) -> npt.NDArray[np.uint8]:
    """Turn numbers (i, j, k) into classes, slice by slice to save memory."""
    numbers = _numbers(values)
    zero = target(numbers, path)[..., numbers == 0]  # of the whole, as numbers have to go together
    i, j, k = values.shape
    mask = np.zeros((*target.channels, k, j, i), dtype=np.uint8)
    if zero.any():
        mask[...] = zero[..., None, None]
    for index in range(k):
        plane = values[:, :, index].T
        others = plane != 0  # few, and the others need no second look
        mask[..., index, :, :][..., others] = target(_without_noise(plane[others]), path)
    return mask.swapaxes(-1, -3)


def _numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the numbers of a mask, or enough of them to tell that it is none."""
    drawn: set[float] = set()
    for plane in np.moveaxis(values, 2, 0):
        others = plane[plane != 0]  # the few that have to be sorted
        drawn.update(np.unique(_without_noise(others)).tolist())
        if len(others) < plane.size:
            drawn.add(0)
        if len(drawn) > MOST:
            break
    return np.array(sorted(drawn))


def _without_noise(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if numbers.dtype.kind != "f":
        return numbers
    whole = np.rint(numbers)
    return np.where(np.abs(numbers - whole) <= NOISE, whole, numbers)
