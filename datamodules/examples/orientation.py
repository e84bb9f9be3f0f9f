"""A volume on other grids: flipped, its axes exchanged, or turned in space."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy import ndimage

from datamodules.examples.phantom_volume import PhantomVolume
from datamodules.readers.space import affine_of_turned, orientation_to_ras, turn

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
    """Store a volume along other axes, e.g. "LPS" for those that run to left, back and head.

    Every voxel stays where it is in the patient.
    """
    goal = axcodes2ornt(codes)  # type: ignore[no-untyped-call]
    way = ornt_transform(orientation_to_ras(volume.affine), goal)  # type: ignore[no-untyped-call]
    affine = affine_of_turned(volume.affine, way, volume.hu.shape)
    return Oriented(turn(volume.hu, way), turn(volume.mask, way), affine)


def turned(volume: PhantomVolume, about_x: float, about_z: float) -> PhantomVolume:
    """Scan the same patient with slices that are not square to the body.

    Args:
        volume: the volume; its middle stays where it is.
        about_x: degrees about the axis from left to right, as a gantry or a head is tilted.
        about_z: degrees about the axis from feet to head, as a body is turned.
    """
    middle = volume.affine @ [*((np.array(volume.hu.shape) - 1) / 2), 1]
    motion = np.eye(4)
    motion[:3, :3] = _rotation(about_x, about_z)
    motion[:3, 3] = middle[:3] - motion[:3, :3] @ middle[:3]
    affine = motion @ volume.affine
    to_old = np.linalg.inv(volume.affine) @ affine
    smooth = ndimage.affine_transform(volume.hu.astype(np.float32), to_old, order=1, cval=OUTSIDE)
    mask, lung = (
        ndimage.affine_transform(labels.astype(np.uint8), to_old, order=0)
        for labels in (volume.mask, volume.lung)
    )
    return PhantomVolume(np.rint(smooth).astype(np.int16), mask, lung > 0, affine)


def _rotation(about_x: float, about_z: float) -> npt.NDArray[np.float64]:
    # not scipy's Rotation, which goes over quaternions: its last digits could move single voxels
    (cos_x, cos_z), (sin_x, sin_z) = (f(np.deg2rad([about_x, about_z])) for f in (np.cos, np.sin))
    tilt = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    turn = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    return np.asarray(turn @ tilt)
