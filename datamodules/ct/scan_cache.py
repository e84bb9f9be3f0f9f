"""Scans and masks on the grid, resampled once and then mapped from disk."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.ct.grid import Box, ScanGrid
from datamodules.ct.hounsfield import warn_of
from datamodules.ct.volume import read_ct, read_mask
from datamodules.volume_cache import FileStamp, cached, stamps
from lightning_fl.data.scans import ScanFiles

VERSION = 1
"""Raise it with every change that moves a voxel: older files are then no longer found."""

_FACTS = 8
"""Numbers kept beside the voxels: first and end of the scan on X, Y and Z, and `Lesions`."""


@dataclass(frozen=True)
class Lesions:
    """How many of a scan's voxels are foreground, and how many of these miss the grid."""

    voxels: int
    lost: int


@dataclass(frozen=True)
class PreparedScan:
    """A scan and its mask on the grid.

    Attributes:
        image: HU (X, Y, Z).
        mask: class numbers (X, Y, Z).
        covered: part of the grid that lies in the scan.
        lesions: counted on the scan before it was resampled.
    """

    image: npt.NDArray[np.int16]
    mask: npt.NDArray[np.uint8]
    covered: Box
    lesions: Lesions

    def facts(self) -> npt.NDArray[np.int64]:
        """Return the numbers that the cache keeps beside the voxels."""
        ends = [end for part in self.covered for end in (part.start, part.stop)]
        return np.array([*ends, self.lesions.voxels, self.lesions.lost], dtype=np.int64)


@dataclass(frozen=True)
class ScanCache:
    """The cache of one run's scans.

    Attributes:
        folder: where it lies; made when first needed.
        grid: of the scans.
        classes: of the masks, see `datamodules.ct.volume.read_mask`.
    """

    folder: Path
    grid: ScanGrid
    classes: int

    def add(self, files: ScanFiles) -> "CachedScan":
        """Name a scan by its files as they are now; nothing is read yet."""
        return CachedScan(self, files, stamps(files.image, files.mask))


@dataclass(frozen=True)
class CachedScan:
    """A scan of the cache; its files are read only where the cache has nothing of them.

    Attributes:
        cache: where it is kept.
        files: of the scan.
        stamps: what the files were when they were named.
    """

    cache: ScanCache
    files: ScanFiles
    stamps: tuple[FileStamp, ...]

    def load(self) -> PreparedScan:
        """Map image and mask from disk; make them first if they are missing or damaged.

        Raises:
            DataError: a file cannot be used, or the cache cannot be written.
        """
        cache, key = self.cache, (VERSION, self.stamps, self.cache.grid, self.cache.classes)
        make = functools.cache(self._make)  # one reading for all three
        folder, shape = cache.folder, cache.grid.shape
        image = cached(folder, (*key, "image"), lambda: make().image, shape, np.int16)
        mask = cached(folder, (*key, "mask"), lambda: make().mask, shape, np.uint8)
        facts = cached(folder, (*key, "facts"), lambda: make().facts(), (_FACTS,), np.int64)
        x0, x1, y0, y1, z0, z1, voxels, lost = facts.tolist()
        covered = (slice(x0, x1), slice(y0, y1), slice(z0, z1))
        return PreparedScan(image, mask, covered, Lesions(voxels, lost))

    def warn(self) -> None:
        """Warn of numbers that are no HU, also where the scan came from the cache."""
        warn_of(self.files.image, self.cache.folder, (VERSION, self.stamps, "oddities"), read_ct)

    def _make(self) -> PreparedScan:
        """Bring the scan and its mask to the grid."""
        ct = read_ct(self.files.image)
        mask = ct.to_ras(read_mask(self.files.mask, ct, self.cache.classes))
        placement = self.cache.grid.place(ct.hu.shape, ct.spacing)
        voxels, on_grid = (int(np.count_nonzero(m)) for m in (mask, mask[placement.reached]))
        return PreparedScan(
            placement.image(ct.hu),
            placement.mask(mask, self.cache.classes),
            placement.covered,
            Lesions(voxels, lost=voxels - on_grid),
        )
