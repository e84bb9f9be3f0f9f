"""Coordinates, shapes and smooth noise, all in millimetres and continuous in z.

Shapes are signed distances, positive inside. Everything is a function of position rather than of a
pixel grid, so the same patient can be seen at any image size and slice thickness.
Axes as on a CT image: x runs to the patient's left, y to the back, z to the feet.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
"""Float32 everywhere; wider on paper, because to the type checker float32 * float is float64."""

FIELD_OF_VIEW = 345.0
"""Width of an image in mm."""


class Space(NamedTuple):
    """Positions in mm as three arrays that broadcast together."""

    x: FloatArray
    y: FloatArray
    z: FloatArray


def image_space(levels: FloatArray, size: int) -> Space:
    """Return pixel centres of square images at z levels; broadcast to (levels, size, size)."""
    line = (((np.arange(size) + 0.5) / size - 0.5) * FIELD_OF_VIEW).astype(np.float32)
    return Space(line[None, None, :], line[None, :, None], levels[:, None, None])


def coverage(distance: FloatArray, pixel: float) -> FloatArray:
    """Return the share of a pixel that lies inside a shape: the partial-volume effect."""
    share: FloatArray = np.clip(distance / pixel + 0.5, 0, 1)
    return share


def blend(hu: FloatArray, value: float | FloatArray, share: FloatArray) -> None:
    """Replace a share of each voxel's Hounsfield units, in place."""
    hu += share * (value - hu)


def union(a: FloatArray, b: FloatArray, rounding: float = 8.0) -> FloatArray:
    """Unite two shapes and fill their inner corner with a radius of some mm."""
    overlap = np.maximum(rounding - np.abs(a - b), 0)
    distance: FloatArray = np.maximum(a, b) + overlap * overlap * (0.25 / rounding)
    return distance


def smoothstep(value: FloatArray, low: float, high: float) -> FloatArray:
    """Rise smoothly from 0 below `low` to 1 above `high`."""
    t: FloatArray = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned in the axial plane; an infinite `radius[2]` makes it a column."""

    centre: tuple[float, float, float]
    radius: tuple[float, float, float]
    degrees: float = 0.0

    def radial(self, at: Space) -> FloatArray:
        """Measure from the centre in units of the radius: 1 on the surface."""
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = at.x - self.centre[0], at.y - self.centre[1]
        u = (cos * x + sin * y) / self.radius[0]
        v = (cos * y - sin * x) / self.radius[1]
        w = (at.z - self.centre[2]) / self.radius[2]
        return np.sqrt(u * u + v * v + w * w)

    def distance(self, at: Space) -> FloatArray:
        """Measure the signed distance in mm, exact for spheres and close to it for others."""
        return (1 - self.radial(at)) * min(self.radius[:2])


@dataclass(frozen=True)
class Tube:
    """A straight tube with round ends between two points, its radius tapering."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: tuple[float, float]

    def distance(self, at: Space) -> FloatArray:
        """Measure the signed distance in mm."""
        offset = [p - s for p, s in zip(at, self.start, strict=True)]
        axis = [(e - s) for e, s in zip(self.end, self.start, strict=True)]
        length2 = sum(a * a for a in axis)
        t = np.clip(sum(o * a for o, a in zip(offset, axis, strict=True)) / length2, 0, 1)
        gap2 = sum(np.square(o - t * a) for o, a in zip(offset, axis, strict=True))
        radius = self.radius[0] + t * (self.radius[1] - self.radius[0])
        distance: FloatArray = (radius - np.sqrt(gap2)).astype(np.float32)
        return distance


class SmoothNoise:
    """A random field of unit variance and one wavelength, defined everywhere in the chest.

    Cubic B-splines on a lattice of random numbers, summed axis by axis over their four neighbours.
    No matrix products: on a busy machine the threads of BLAS make small ones ten times slower.

    Args:
        rng: gives the lattice.
        wavelength: distance of the lattice's points in mm.
    """

    reach = 210.0

    def __init__(self, rng: np.random.Generator, wavelength: float) -> None:
        self.wavelength = wavelength
        nodes = int(2 * self.reach / wavelength) + 4
        self.lattice = rng.standard_normal((nodes, nodes, nodes), dtype=np.float32)

    def __call__(self, at: Space) -> FloatArray:
        """Return values on an `image_space`, of shape (levels, size, size)."""
        # A cubic B-spline's sum has variance 0.479 along each axis.
        field: FloatArray = self.lattice / 0.479**1.5
        for axis, positions in enumerate((at.z, at.y, at.x)):
            field = self._interpolate(field, positions.ravel(), axis)
        return field

    def _interpolate(self, field: FloatArray, positions: FloatArray, axis: int) -> FloatArray:
        where = (positions + self.reach) / self.wavelength + 1
        node = np.floor(where).astype(np.int64)
        t = (where - node).astype(np.float32)
        s = 1 - t
        weights = (s**3 / 6, 2 / 3 - t * t * (2 - t) / 2, 2 / 3 - s * s * (2 - s) / 2, t**3 / 6)
        shape = [-1 if i == axis else 1 for i in range(3)]
        total: FloatArray = sum(
            field.take(node + k, axis) * weight.reshape(shape)
            for k, weight in zip((-1, 0, 1, 2), weights, strict=True)
        )
        return total
