"""Where the voxels of a file lie in the patient, and whether two files agree on it."""

from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from lightning_fl.errors import DataError

Affine = npt.NDArray[np.float64]
"""(4, 4), from voxel indices to mm along the patient's left-to-right, back-to-front, feet-to-head
(RAS+)."""

Orientation = npt.NDArray[np.float64]
"""(3, 2), nibabel's: for every axis of an array where it goes and whether (-1) it is turned."""

N = TypeVar("N", int, float)
T = TypeVar("T", bound=np.generic)

UNTURNED: Orientation = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])

SKEW = 0.005
"""Cosine between two axes that still counts as a right angle (0.3 degrees): direction cosines are
often rounded to three digits."""

SAME = 1e-3
"""Largest difference of two affines' entries in voxels; single precision alone gives 1e-5."""

SAME_CORNER = 0.1
"""Largest distance of two grids' corners in voxels, to which differences of the edges add up."""


class PlacedArray(Protocol):
    """What places an array of voxels: its shape, its affine and the file it comes from."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the file's array."""

    @property
    def affine(self) -> Affine:
        """Of the file's array."""

    @property
    def source(self) -> Path:
        """File, or folder of a DICOM series."""


def edges(affine: Affine) -> npt.NDArray[np.float64]:
    """Return the edges of a voxel in mm along the three axes."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def check_affine(affine: Affine, source: Path) -> None:
    """Raise DataError unless the axes have a length and stand at right angles."""
    lengths = edges(affine)
    if not np.isfinite(affine).all() or lengths.min() < 1e-6:
        raise DataError(
            f"{source} places its voxels with the affine {_rows(affine)}, which gives them no size "
            "or is not finite; repair its header or export the scan anew."
        )
    directions = affine[:3, :3] / lengths
    if np.abs(directions.T @ directions - np.eye(3)).max() > SKEW:
        raise DataError(
            f"{source} has axes that do not stand at right angles (affine {_rows(affine)}), as a "
            "tilted gantry gives; resample it to an upright grid first."
        )


def orientation_to_ras(affine: Affine) -> Orientation:
    """Return how an array's axes are turned and swapped to come closest to RAS+."""
    orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
    return np.asarray(orientation, dtype=np.float64)


def inverse(orientation: Orientation) -> Orientation:
    """Return the way back from where `orientation` leads."""
    back = ornt_transform(UNTURNED, orientation)  # type: ignore[no-untyped-call]
    return np.asarray(back, dtype=np.float64)


def turn(array: npt.NDArray[T], orientation: Orientation) -> npt.NDArray[T]:
    """View an array (..., i, j, k) with its last three axes turned and swapped."""
    last, first = (-3, -2, -1), (0, 1, 2)
    in_front = np.moveaxis(array, last, first)
    turned: npt.NDArray[T] = apply_orientation(in_front, orientation)  # type: ignore[no-untyped-call]
    return np.moveaxis(turned, first, last)


def affine_of_turned(affine: Affine, orientation: Orientation, shape: tuple[int, ...]) -> Affine:
    """Return the affine of an array of that affine and shape after `turn`."""
    back = inv_ornt_aff(orientation, shape)  # type: ignore[no-untyped-call]
    return np.asarray(affine @ back)


def reorder(values: tuple[N, N, N], orientation: Orientation) -> tuple[N, N, N]:
    """Put one number for each axis where `turn` puts the axis."""
    first, second, third = (values[axis] for axis in np.argsort(orientation[:, 0]))
    return first, second, third


def fit_onto(other: PlacedArray, scan: PlacedArray, what: str) -> Orientation:
    """Return how another array, e.g. a mask's, is turned to lie on a scan's.

    Its axes may be swapped or reversed: only the place in the patient counts, which conversion
    between formats keeps.

    Args:
        other: what has to lie on the scan.
        scan: the scan.
        what: the other's kind, for errors.

    Raises:
        DataError: they do not cover the same grid; names both files.
    """
    orientation = orientation_to_ras(np.linalg.inv(scan.affine) @ other.affine)
    if reorder(other.shape, orientation) != scan.shape:
        raise DataError(
            f"{what} {other.source} has shape {other.shape}, but its scan {scan.source} has "
            f"{scan.shape}; it needs one number for each voxel of the scan."
        )
    affine = affine_of_turned(other.affine, orientation, other.shape)
    if not _agree(affine, scan.affine, scan.shape):
        raise DataError(
            f"{what} {other.source} lies elsewhere than its scan {scan.source}: their affines are "
            f"{_rows(affine)} and {_rows(scan.affine)}. Take the one that belongs to this scan, or "
            "resample it to the scan's grid."
        )
    return orientation


def _agree(other: Affine, scan: Affine, shape: tuple[int, int, int]) -> bool:
    lengths = edges(scan)
    entries = np.abs(other - scan)[:3].max(axis=0) / np.append(lengths, lengths.min())
    corners = np.stack(np.meshgrid(*((0, n) for n in shape), [1], indexing="ij")).reshape(4, 8)
    moved = np.linalg.norm(((other - scan) @ corners)[:3], axis=0) / lengths.min()
    return bool(entries.max() <= SAME and moved.max() <= SAME_CORNER)


def _rows(affine: Affine) -> list[list[float]]:
    rows: list[list[float]] = np.round(affine[:3], 4).tolist()
    return rows
