"""The same volume on other grids: flipped, its axes exchanged, or turned in space."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.examples.phantom_volume import PhantomVolume

ENDS = ("IS", "PA", "LR")
"""Where the axes of a `PhantomVolume` run to, and where from: feet (inferior) and head (superior),
back (posterior) and front (anterior), left and right."""
OUTSIDE = -1000
"""Hounsfield units of what no slice shows: air."""


@dataclass(frozen=True)
class Oriented:
    """Hounsfield units and mask on a grid of their own.

    Attributes:
        hu: int16, in any order and direction of axes.
        mask: uint8 of the same shape.
        affine: from indices to mm to the right, to the front and to the head.
    """

    hu: npt.NDArray[np.int16]
    mask: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]


def oriented(volume: PhantomVolume, codes: str) -> Oriented:
    """Store a volume along other axes; every voxel stays where it is in the patient.

    Args:
        volume: the volume.
        codes: where the three axes run to, e.g. "LPS" for left, back and head.
    """
    order = [next(axis for axis, ends in enumerate(ENDS) if code in ends) for code in codes]
    affine = volume.affine[:, [*order, 3]]
    hu, mask = volume.hu.transpose(order), volume.mask.transpose(order)
    for axis, code in enumerate(codes):
        if code == ENDS[order[axis]][1]:
            affine[:, 3] += affine[:, axis] * (hu.shape[axis] - 1)
            affine[:, axis] = 0 - affine[:, axis]  # -x would make zeros negative
            hu, mask = np.flip(hu, axis), np.flip(mask, axis)
    return Oriented(hu, mask, affine)


def turned(volume: PhantomVolume, about_x: float, about_z: float) -> PhantomVolume:
    """Scan the same patient with slices that are not square to the body.

    Args:
        volume: the volume; its middle stays where it is.
        about_x: degrees about the axis from left to right, as a gantry or a head is tilted.
        about_z: degrees about the axis from feet to head, as a body is turned.
    """
    middle = volume.affine @ [*((np.array(volume.hu.shape) - 1) / 2), 1]
    turn = np.eye(4)
    turn[:3, :3] = _rotation(about_x, about_z)
    turn[:3, 3] = middle[:3] - turn[:3, :3] @ middle[:3]
    affine = turn @ volume.affine
    to_old = np.linalg.inv(volume.affine) @ affine
    smooth = ndimage.affine_transform(volume.hu.astype(np.float32), to_old, order=1, cval=OUTSIDE)
    mask, lung = (
        ndimage.affine_transform(labels.astype(np.uint8), to_old, order=0)
        for labels in (volume.mask, volume.lung)
    )
    return PhantomVolume(np.rint(smooth).astype(np.int16), mask, lung > 0, affine)


def _rotation(about_x: float, about_z: float) -> npt.NDArray[np.float64]:
    (cos_x, sin_x), (cos_z, sin_z) = (
        (np.cos(angle), np.sin(angle)) for angle in np.deg2rad([about_x, about_z])
    )
    tilt = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    turn = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    rotation: npt.NDArray[np.float64] = turn @ tilt
    return rotation
