"""2.5-D: a volume as slices, each with its neighbours as channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError

T = TypeVar("T", bound=np.generic)

AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Which axis of (X, Y, Z) the slices of a direction follow each other along."""
ROWS_AND_COLUMNS = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}
"""Which axes run down and across an image. Both are turned round, see `Slicing`."""


@dataclass(frozen=True)
class Slicing:
    """Cut a grid into images, and put images together as a grid.

    Images lie as they are read. Rows run down from the front in axial images, from the head in
    coronal and sagittal ones. Columns run from the patient's right to the left, in sagittal images
    from the front to the back. So a body is roughly symmetric along the last axis of axial and
    coronal images.

    Attributes:
        direction: "axial", "coronal" or "sagittal".
        neighbours: slices that are the channels of an image, odd: as many below as above the one
            it is about. At the ends of the grid its last slice stands for what is missing.

    Raises:
        ConfigError: an unknown direction or an even number.
    """

    direction: str = "axial"
    neighbours: int = 3

    def __post_init__(self) -> None:
        if self.direction not in AXES:
            raise ConfigError(
                f"Unknown `direction` {self.direction!r}; expected one of "
                f"{', '.join(map(repr, AXES))}."
            )
        if self.neighbours < 1 or self.neighbours % 2 == 0:
            raise ConfigError(
                "Expected `neighbours` to be an odd number of slices, the one that is predicted "
                f"included, but got {self.neighbours}."
            )

    @property
    def axis(self) -> int:
        """The axis of (X, Y, Z) that is cut."""
        return AXES[self.direction]

    def image(self, grid: npt.NDArray[T], index: int) -> Tensor:
        """Cut out a slice and its neighbours, float32 (channels * neighbours, H, W).

        The neighbours of the first channel come first, then those of the second.

        Args:
            grid: (channels, X, Y, Z).
            index: of the slice.
        """
        half = self.neighbours // 2
        last = grid.shape[1 + self.axis] - 1
        chosen = np.clip(np.arange(index - half, index + half + 1), 0, last)
        planes = [self._planes(channel)[chosen] for channel in grid]
        return torch.from_numpy(np.concatenate(planes, dtype=np.float32))

    def mask(self, grid: npt.NDArray[np.uint8], index: int) -> Tensor:
        """Cut out the classes of one slice, int64 (H, W), or (R, H, W) of R regions."""
        planes = self._planes(grid)[index]
        return torch.from_numpy(planes.astype(np.int64))

    def foreground(self, grid: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
        """Return the numbers of the slices with foreground, in any region."""
        planes = self._planes(grid)
        return np.flatnonzero((planes % IGNORE).reshape(len(planes), -1).any(axis=1))

    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        """Put a volume's slices, (N, classes, H, W) in order, together as (classes, X, Y, Z)."""
        slices = torch.cat(list(batches)).float().flip(-1, -2)
        rows, columns = ROWS_AND_COLUMNS[self.direction]
        return slices.movedim((1, 0, 2, 3), (0, self.axis + 1, rows + 1, columns + 1))

    def _planes(self, grid: npt.NDArray[T]) -> npt.NDArray[T]:
        """View a grid (..., X, Y, Z) as slices (N, ..., H, W)."""
        rows, columns = (axis - 3 for axis in ROWS_AND_COLUMNS[self.direction])
        return np.moveaxis(grid, (self.axis - 3, rows, columns), (0, -2, -1))[..., ::-1, ::-1]
