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
    """View an array with its first three axes turned and swapped."""
    turned: npt.NDArray[T] = apply_orientation(array, orientation)  # type: ignore[no-untyped-call]
    return turned


def affine_of_turned(affine: Affine, orientation: Orientation, shape: tuple[int, ...]) -> Affine:
    """Return the affine of an array of that affine and shape after `turn`."""
    back = inv_ornt_aff(orientation, shape)  # type: ignore[no-untyped-call]
    return np.asarray(affine @ back)


def reorder(values: tuple[N, N, N], orientation: Orientation) -> tuple[N, N, N]:
    """Put one number for each axis where `turn` puts the axis."""
    first, second, third = (values[axis] for axis in np.argsort(orientation[:, 0]))
    return first, second, third


def fit_onto(mask: PlacedArray, ct: PlacedArray, *, may_turn: bool) -> Orientation:
    """Return how a mask's array is turned to lie on its CT's.

    With `may_turn` the mask's axes may be swapped or reversed. Then only the place counts, which
    conversion from DICOM to NIfTI keeps.

    Raises:
        DataError: they do not cover the same grid; names both files.
    """
    relative = np.linalg.inv(ct.affine) @ mask.affine
    orientation = orientation_to_ras(relative) if may_turn else UNTURNED
    if reorder(mask.shape, orientation) != ct.shape:
        raise DataError(
            f"Mask {mask.source} has shape {mask.shape}, but its CT {ct.source} has {ct.shape}; "
            "a mask needs one number for each voxel of its own scan."
        )
    affine = affine_of_turned(mask.affine, orientation, mask.shape)
    if not _agree(affine, ct.affine, ct.shape):
        raise DataError(
            f"Mask {mask.source} lies elsewhere than its CT {ct.source}: their affines are "
            f"{_rows(affine)} and {_rows(ct.affine)}. Take the mask drawn on this scan, or "
            "resample it to the scan's grid."
        )
    return orientation


def _agree(mask: Affine, ct: Affine, shape: tuple[int, int, int]) -> bool:
    lengths = edges(ct)
    entries = np.abs(mask - ct)[:3].max(axis=0) / np.append(lengths, lengths.min())
    corners = np.stack(np.meshgrid(*((0, n) for n in shape), [1], indexing="ij")).reshape(4, 8)
    moved = np.linalg.norm(((mask - ct) @ corners)[:3], axis=0) / lengths.min()
    return bool(entries.max() <= SAME and moved.max() <= SAME_CORNER)


def _rows(affine: Affine) -> list[list[float]]:
    rows: list[list[float]] = np.round(affine[:3], 4).tolist()
    return rows
