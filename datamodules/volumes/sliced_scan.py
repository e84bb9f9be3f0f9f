"""One scan as a net sees it, with no mask needed: for evaluation and prediction."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.index.files import SEGMENTATION
from datamodules.normalisation import Normalisation
from datamodules.normalisation.base import Measures
from datamodules.readers.mask import read_mask, save_mask
from datamodules.readers.volume import ScanVolume
from datamodules.targets import MaskTarget
from datamodules.volumes.grid import ScanGrid
from datamodules.volumes.scan_cache import put_on_grid
from datamodules.volumes.slices import Slicing
from lightning_fl.data.scans import Mask, Volume

T = TypeVar("T", bound=np.generic)


class SlicedScan(Volume):
    """Show a scan on the grid, and find the way back to its voxels.

    Args:
        name: of the scan.
        scan: its voxels.
        grid: that nets work on.
        slicing: how the grid becomes images.
        normalise: how values become shades.
        target: makes classes or regions of its masks.
    """

    def __init__(
        self,
        name: str,
        scan: ScanVolume,
        grid: ScanGrid,
        slicing: Slicing,
        normalise: Normalisation,
        target: MaskTarget,
    ) -> None:
        self.name = name
        self.spacing = scan.file_spacing
        if scan.source.is_dir():
            self.suffixes = (*Volume.suffixes, SEGMENTATION)
        self.scan = scan
        self.slicing = slicing
        self.normalise = normalise
        self.target = target
        x, y, z = scan.values.shape[1:]
        self.placement = grid.place((x, y, z), scan.spacing)

    @cached_property
    def values(self) -> npt.NDArray[Any]:
        """The scan's values as they are resampled, (C, X, Y, Z)."""
        return self.normalise.prepare(self.scan.values, self.scan.source)

    @cached_property
    def measures(self) -> Measures:
        """The normalisation's measures of each channel."""
        return self.normalise.measures(self.values)

    def images(self) -> Dataset[Tensor]:
        """Return every slice of the grid, with those in the padding, float32 (C, H, W)."""
        grid = put_on_grid(self.values, self.placement, self.normalise)
        return GridImages(grid, self.slicing, self.normalise, self.measures)

    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        """Put the probabilities of `images` together on the grid."""
        return self.slicing.assemble(batches)

    def mask(self, grid: Tensor, threshold: float) -> Mask:
        """Decide the classes of the scan's voxels, in the order of its file."""

        def decide(probabilities: Tensor) -> Tensor:
            if probabilities.shape[1] == 1:
                return probabilities[:, 0] > threshold
            return probabilities.argmax(dim=1)

        return self.scan.from_ras(self.placement.back(grid.float().cpu(), decide))

    def read_mask(self, path: Path) -> Mask:
        """Read a truth that belongs to this scan."""
        return read_mask(path, self.scan, self.target)

    def axial(self, mask: Mask) -> Mask:
        """Turn a mask into axial slices (Z, H, W): front up, the patient's right on the left."""
        return _as_read(self.scan.to_ras(mask))

    def picture(self, level: int) -> Tensor:
        """Return axial slice `level` of the scan's first channel, float32 (1, H, W) in [0, 1]."""
        plane = torch.from_numpy(_as_read(self.values[0])[level].astype(np.float32))[None]
        return self.normalise.picture(self.normalise.apply(plane, self.measures[:1]))

    def save(self, mask: Mask, path: Path) -> None:
        """Write a mask as NIfTI in the scan's space, or of a series as DICOM segmentation."""
        save_mask(mask, self.scan, path)


class GridImages(Dataset[Tensor]):
    """Cut one scan on the grid into its slices, in order.

    Args:
        grid: values (C, X, Y, Z).
        slicing: how it is cut.
        normalise: how values become shades.
        measures: of the normalisation.
    """

    def __init__(
        self,
        grid: npt.NDArray[Any],
        slicing: Slicing,
        normalise: Normalisation,
        measures: Measures,
    ) -> None:
        self.grid = grid
        self.slicing = slicing
        self.normalise = normalise
        self.measures = measures

    def __len__(self) -> int:
        return int(self.grid.shape[1 + self.slicing.axis])

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a slice from 0 to {len(self) - 1}, but got {index}.")
        return self.normalise.apply(self.slicing.image(self.grid, index), self.measures)


def _as_read(voxels: npt.NDArray[T]) -> npt.NDArray[T]:
    """View (X, Y, Z) in RAS+ as axial slices (Z, H, W), from the front down and from the right on.

    X grows towards the patient's right, Y to the front, so both are turned round.
    """
    return voxels[::-1, ::-1].transpose(2, 1, 0)
