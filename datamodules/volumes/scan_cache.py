"""Scans and masks on the grid, resampled once and then mapped from disk."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.index.row import Row
from datamodules.normalisation import Normalisation
from datamodules.normalisation.base import Measures
from datamodules.normalisation.oddities import warn_of
from datamodules.readers.mask import read_mask
from datamodules.readers.volume import read_channels
from datamodules.targets import MaskTarget
from datamodules.volume_cache import FileStamp, cached, stamps
from datamodules.volumes.grid import Box, Placement, ScanGrid
from datamodules.volumes.modality import check_modality
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import DataError

VERSION = 2
"""Raise it with every change that moves a voxel: older files are then no longer found."""

_FACTS = 8
"""Numbers kept beside the voxels before the measures: ends of the scan on X, Y, Z; `Lesions`."""


@dataclass(frozen=True)
class Lesions:
    """Count how many of a scan's voxels are foreground, and how many of these miss the grid."""

    voxels: int
    lost: int


@dataclass(frozen=True)
class PreparedScan:
    """Hold a scan and its mask on the grid.

    Attributes:
        image: (C, X, Y, Z), HU in int16 or other values in float32.
        measures: of the normalisation, for each channel.
        mask: class numbers (X, Y, Z), or (R, X, Y, Z) of R regions.
        covered: part of the grid that lies in the scan.
        lesions: counted on the scan before it was resampled.
    """

    image: npt.NDArray[Any]
    measures: Measures
    mask: npt.NDArray[np.uint8]
    covered: Box
    lesions: Lesions

    def facts(self) -> npt.NDArray[np.float64]:
        """Return the numbers that the cache keeps beside the voxels."""
        ends = [end for part in self.covered for end in (part.start, part.stop)]
        return np.array([*ends, self.lesions.voxels, self.lesions.lost, *self.measures.flat])


def put_on_grid(
    values: npt.NDArray[Any], placement: Placement, normalise: Normalisation
) -> npt.NDArray[Any]:
    """Bring the channels of a scan, (C, X, Y, Z) from `normalise.prepare`, to a grid."""
    return np.stack([placement.image(v, normalise.dtype, normalise.padding(v)) for v in values])


@dataclass(frozen=True)
class ScanCache:
    """Keep the scans of one run.

    Attributes:
        folder: where it lies; made when first needed.
        grid: of the scans.
        target: makes classes or regions of the masks.
        normalise: decides what is measured and how exactly values are kept.
        modality: of all scans, or None.
    """

    folder: Path
    grid: ScanGrid
    target: MaskTarget
    normalise: Normalisation
    modality: str | None = None

    def add(self, row: Row) -> "CachedScan":
        """Name a scan by its files as they are now; nothing is read yet."""
        if row.mask is None:
            raise DataError(
                f"{row.place}: patient {row.patient!r} of site {row.site!r} has no mask. Add one, "
                "or remove the patient."
            )
        return CachedScan(self, row.images, row.mask, stamps(*row.images, row.mask))


@dataclass(frozen=True)
class CachedScan:
    """Name a scan of the cache; its files are read only where the cache has nothing of them.

    Attributes:
        cache: where it is kept.
        images: files of its channels.
        mask: file of its mask.
        stamps: what the files were when they were named.
    """

    cache: ScanCache
    images: tuple[Path, ...]
    mask: Path
    stamps: tuple[FileStamp, ...]

    def load(self) -> PreparedScan:
        """Map image and mask from disk; make them first if they are missing or damaged.

        Raises:
            DataError: a file cannot be used, or the cache cannot be written.
        """
        cache, dtype = self.cache, self.cache.normalise.dtype
        key = (VERSION, self.stamps, cache.grid, cache.modality)
        truth = (*key, cache.target)
        wanted = (*cache.target.channels, *cache.grid.shape)
        make = functools.cache(self._make)  # one reading for all three
        folder, shape = cache.folder, cache.grid.shape
        image = cached(folder, (*key, dtype.__name__), lambda: make().image, (-1, *shape), dtype)
        mask = cached(folder, (*truth, "mask"), lambda: make().mask, wanted, np.uint8)
        facts = cached(folder, (*truth, cache.normalise), lambda: make().facts(), (-1,), np.float64)
        x0, x1, y0, y1, z0, z1, voxels, lost = (int(number) for number in facts[:_FACTS])
        covered = (slice(x0, x1), slice(y0, y1), slice(z0, z1))
        measures = facts[_FACTS:].reshape(-1, 2)
        return PreparedScan(image, measures, mask, covered, Lesions(voxels, lost))

    def warn(self) -> None:
        """Warn of odd numbers, also where the scan came from the cache."""
        key = (VERSION, self.stamps, self.cache.normalise.dtype.__name__, "oddities")
        warn_of(self.images[0], self.cache.folder, key, lambda _: self._make())

    def _make(self) -> PreparedScan:
        """Bring the scan and its mask to the grid."""
        cache, scan = self.cache, read_channels(self.images)
        check_modality(scan, cache.modality)
        mask = scan.to_ras(read_mask(self.mask, scan, cache.target))
        x, y, z = mask.shape[-3:]
        placement = cache.grid.place((x, y, z), scan.spacing)
        parts = (mask, mask[..., *placement.reached])
        voxels, reached = (int(np.count_nonzero(part % IGNORE)) for part in parts)
        values = cache.normalise.prepare(scan.values, scan.source)
        return PreparedScan(
            put_on_grid(values, placement, cache.normalise),
            cache.normalise.measures(values),
            placement.mask(mask),
            placement.covered,
            Lesions(voxels, lost=voxels - reached),
        )
