"""From a scan's voxels to the grid that all scans share, and back.

Each axis is resampled on its own. Its extent is kept and divided into whole voxels of about the
wanted spacing, which are then cut or padded on both sides alike. So positions are exact: a voxel's
edge on the scan is an edge, or a known fraction between two, on the grid.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.volumes.axis import Axis
from lightning_fl.errors import ConfigError

SLAB = 16
"""Slices in floating point at once: 17 MB of 512 x 512, so that a scan never is as a whole."""

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]
V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True)
class ScanGrid:
    """Say which voxels of every scan a net sees.

    Attributes:
        spacing: edges of a voxel in mm along X, Y and Z; a scan's may differ by the rounding to
            whole voxels, half a voxel over its whole extent at most.
        shape: voxels along X, Y and Z.

    Raises:
        ConfigError: a spacing is not positive or a shape below 1.
    """

    spacing: Spacing
    shape: Shape

    def __post_init__(self) -> None:
        if len(self.spacing) != 3 or not all(0 < edge < float("inf") for edge in self.spacing):
            raise ConfigError(
                f"Expected `spacing` to be three positive lengths in mm, but got {self.spacing}."
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ConfigError(
                f"Expected `shape` to be three numbers of voxels, but got {self.shape}."
            )

    def place(self, shape: Shape, spacing: Spacing) -> "Placement":
        """Place a scan of that shape and spacing (mm), both along X, Y and Z, on the grid."""
        axes = zip(shape, spacing, self.spacing, self.shape, strict=True)
        return Placement(
            *(Axis(voxels, max(1, round(voxels * mm / goal)), n) for voxels, mm, goal, n in axes)
        )


@dataclass(frozen=True)
class Placement:
    """Hold the place of one scan on the grid, axis by axis."""

    x: Axis
    y: Axis
    z: Axis

    def image(self, values: npt.NDArray[Any], dtype: type[V], padding: float) -> npt.NDArray[V]:
        """Bring values (X, Y, Z) to the grid, linear and antialiased.

        Args:
            values: of the scan.
            dtype: of the result; integers are rounded.
            padding: lies around the scan.
        """
        grid = np.full((self.x.size, self.y.size, self.z.size), padding, dtype=dtype)
        inside = grid[self.covered]
        for part, planes in self._cover(values, lambda slab: slab):
            if np.issubdtype(dtype, np.integer):
                planes = planes.round_()
            inside[part] = planes.numpy()
        return grid

    def mask(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bring class numbers (..., X, Y, Z) to the grid; background lies around the scan.

        A voxel gets the class that covers most of it. The nearest voxel would keep or lose a small
        lesion by chance, and would move outlines by up to half a voxel. Each region of the first
        axis, if there are four, is brought there by itself.
        """
        if mask.ndim > 3:
            return np.stack([self.mask(region) for region in mask])
        grid = np.zeros((self.x.size, self.y.size, self.z.size), dtype=np.uint8)
        inside = grid[self.covered]
        counts = sum(np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(mask, 2, 0))
        labels = [int(label) for label in np.flatnonzero(counts) if label]
        if len(labels) == 1:
            for part, values in self._cover(mask, partial(np.equal, labels[0])):
                inside[part] = (values > 0.5).numpy() * np.uint8(labels[0])
            return grid
        background = torch.ones(inside.shape)
        most = torch.zeros(inside.shape)
        for label in labels:
            for part, values in self._cover(mask, partial(np.equal, label)):
                background[part] -= values
                more = values > most[part]
                most[part][more] = values[more]
                inside[part][more.numpy()] = label
        inside[(most <= background).numpy()] = 0
        return grid

    def back(
        self, probabilities: Tensor, decide: Callable[[Tensor], Tensor]
    ) -> npt.NDArray[np.uint8]:
        """Decide the classes of the scan's voxels, the grid's probabilities interpolated linearly.

        Args:
            probabilities: float32 (classes, X, Y, Z) on the CPU.
            decide: turns probabilities (n, classes, X, Y) into classes (n, X, Y).

        Returns:
            (X, Y, Z) of the scan; 0 where a voxel's centre does not lie on the grid.
        """
        x, y, z = self.reached
        classes = np.zeros((self.x.voxels, self.y.voxels, self.z.voxels), dtype=np.uint8)
        tall = self._back_along_z(probabilities)
        for part in _slabs(z.stop - z.start):
            planes = tall[..., part].permute(3, 0, 1, 2)[:, :, self.x.sources][..., self.y.sources]
            planes = _resize(planes, (self.x.voxels, self.y.voxels))[:, :, x, y]
            there = slice(z.start + part.start, z.start + part.stop)
            classes[x, y, there] = decide(planes).to(torch.uint8).permute(1, 2, 0).numpy()
        return classes

    @property
    def covered(self) -> Box:
        """The part of the grid that lies in the scan."""
        return self.x.covered, self.y.covered, self.z.covered

    @property
    def reached(self) -> Box:
        """The scan's voxels whose centres lie on the grid."""
        return self.x.reached, self.y.reached, self.z.reached

    def _cover(
        self, voxels: npt.NDArray[Any], value: Callable[[Any], npt.NDArray[Any]]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Resample what of a scan lies on the grid: X and Y first, then Z.

        Args:
            voxels: of the scan (X, Y, Z).
            value: turns some of its slices into the numbers to resample.

        Yields:
            Some of the grid's X in the scan, and their values, float32 (some X, Y, Z).
        """
        x, y, _ = (s.stop - s.start for s in self.covered)
        flat = torch.empty(self.z.voxels, x, y)
        for part in _slabs(self.z.voxels):
            slab = np.moveaxis(value(voxels[..., part]), 2, 0)
            planes = torch.from_numpy(np.ascontiguousarray(slab, dtype=np.float32))[:, None]
            planes = _resize(planes, (self.x.resampled, self.y.resampled))
            flat[part] = planes[:, 0, self.x.kept, self.y.kept]
        for part in _slabs(x):
            columns = flat[:, part].permute(1, 2, 0)[:, None]
            yield part, _resize(columns, (y, self.z.resampled))[:, 0, :, self.z.kept]

    def _back_along_z(self, probabilities: Tensor) -> Tensor:
        """Return (classes, X, Y, reached Z): the grid's voxels in the plane, the scan's along Z."""
        z = self.z.reached
        tall = torch.empty(*probabilities.shape[:3], z.stop - z.start)
        for part in _slabs(probabilities.shape[1]):
            columns = probabilities[:, part][..., self.z.sources]
            tall[:, part] = _resize(columns, (columns.shape[2], self.z.voxels))[..., z]
        return tall


def _slabs(length: int) -> Iterator[slice]:
    for start in range(0, length, SLAB):
        yield slice(start, min(start + SLAB, length))


def _resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring planes (n, channels, H, W) to another size; their extent stays."""
    return F.interpolate(planes, size, mode="bilinear", antialias=True)
