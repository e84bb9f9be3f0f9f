"""One CT scan as a net sees it, with no mask needed: for evaluation and prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.ct.grid import ScanGrid
from datamodules.ct.slices import Slicing
from datamodules.ct.volume import CTVolume, read_mask, save_mask
from lightning_fl.data.scans import Mask, Volume

T = TypeVar("T", bound=np.generic)


class CTScan(Volume):
    """A CT scan on the grid, and the way back to its voxels.

    Args:
        name: of the scan.
        ct: its voxels.
        grid: that nets work on.
        slicing: how the grid becomes images.
        classes: of its masks, see `datamodules.ct.volume.read_mask`.
    """

    def __init__(
        self, name: str, ct: CTVolume, grid: ScanGrid, slicing: Slicing, classes: int
    ) -> None:
        self.name = name
        self.spacing = ct.file_spacing
        self.ct = ct
        self.slicing = slicing
        self.classes = classes
        self.placement = grid.place(ct.hu.shape, ct.spacing)

    def images(self) -> Dataset[Tensor]:
        """Return every slice of the grid, with those in the padding, float32 (neighbours, H, W)."""
        return GridImages(self.placement.image(self.ct.hu), self.slicing)

    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        """Put the probabilities of `images` together on the grid."""
        return self.slicing.assemble(batches)

    def mask(self, grid: Tensor, threshold: float) -> Mask:
        """Decide the classes of the scan's voxels, in the order of its file."""

        def decide(probabilities: Tensor) -> Tensor:
            if probabilities.shape[1] == 1:
                return probabilities[:, 0] > threshold
            return probabilities.argmax(dim=1)

        return self.ct.from_ras(self.placement.back(grid.float().cpu(), decide))

    def read_mask(self, path: Path) -> Mask:
        """Read a truth that belongs to this scan."""
        return read_mask(path, self.ct, self.classes)

    def axial(self, mask: Mask) -> Mask:
        """Turn a mask into axial slices (Z, H, W): front up, the patient's right on the left."""
        return _as_read(self.ct.to_ras(mask))

    def picture(self, level: int) -> Tensor:
        """Return axial slice `level` of the scan in the window's shades, float32 (1, H, W)."""
        return self.slicing.windowed(_as_read(self.ct.hu)[level])[None]

    def save(self, mask: Mask, path: Path) -> None:
        """Write a mask as NIfTI in the scan's space."""
        save_mask(mask, self.ct, path)


class GridImages(Dataset[Tensor]):
    """The slices of one grid, in order.

    Args:
        grid: HU (X, Y, Z).
        slicing: how it is cut.
    """

    def __init__(self, grid: npt.NDArray[np.int16], slicing: Slicing) -> None:
        self.grid = grid
        self.slicing = slicing

    def __len__(self) -> int:
        return int(self.grid.shape[self.slicing.axis])

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a slice from 0 to {len(self) - 1}, but got {index}.")
        return self.slicing.image(self.grid, index)


def _as_read(voxels: npt.NDArray[T]) -> npt.NDArray[T]:
    """View (X, Y, Z) in RAS+ as axial slices (Z, H, W), from the front down and from the right on.

    X grows towards the patient's right, Y to the front, so both are turned round.
    """
    return voxels[::-1, ::-1].transpose(2, 1, 0)
