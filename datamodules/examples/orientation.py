"""A volume on other grids: flipped, its axes exchanged, or turned in space."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from datamodules.ct.space import affine_of_turned, orientation_to_ras, turn
from datamodules.examples.phantom_volume import PhantomVolume

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
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("XZ", [about_x, about_z], degrees=True).as_matrix()
    turn[:3, 3] = middle[:3] - turn[:3, :3] @ middle[:3]
    affine = turn @ volume.affine
    to_old = np.linalg.inv(volume.affine) @ affine
    smooth = ndimage.affine_transform(volume.hu.astype(np.float32), to_old, order=1, cval=OUTSIDE)
    mask, lung = (
        ndimage.affine_transform(labels.astype(np.uint8), to_old, order=0)
        for labels in (volume.mask, volume.lung)
    )
    return PhantomVolume(np.rint(smooth).astype(np.int16), mask, lung > 0, affine)
