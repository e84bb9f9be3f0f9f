"""One axis of a scan on the grid that all scans share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """One axis of a scan on the grid.

    Attributes:
        voxels: of the scan.
        resampled: as many voxels as the scan has at the grid's spacing.
        size: voxels of the grid.
    """

    voxels: int
    resampled: int
    size: int

    @property
    def offset(self) -> int:
        """Where the first resampled voxel lies on the grid; negative if it is cut off."""
        return (self.size - self.resampled) // 2

    @property
    def covered(self) -> slice:
        """Voxels of the grid that lie in the scan; the others are padding."""
        return slice(max(0, self.offset), min(self.size, self.offset + self.resampled))

    @property
    def kept(self) -> slice:
        """Resampled voxels that lie on the grid: those that `covered` holds."""
        return slice(self.covered.start - self.offset, self.covered.stop - self.offset)

    @property
    def reached(self) -> slice:
        """The scan's voxels whose centres lie on the grid."""
        centres = (np.arange(self.voxels) + 0.5) * self.resampled / self.voxels + self.offset
        inside = np.flatnonzero((centres >= 0) & (centres <= self.size))
        return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)

    @property
    def sources(self) -> Tensor:
        """The voxel of the grid for every resampled voxel, or the nearest if that is cut off."""
        return (torch.arange(self.resampled) + self.offset).clamp(0, self.size - 1)
