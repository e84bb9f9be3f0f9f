"""Scans and masks on the grid, resampled once and then mapped from disk."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.ct.grid import Box, Grid, Placement
from datamodules.ct.hounsfield import report, reported
from datamodules.ct.volume import CTVolume, read_ct, read_mask
from datamodules.volume_cache import FileStamp, cached, cached_text, stamps
from lightning_fl.data.scans import ScanFiles

VERSION = 1
"""Raise it with every change that moves a voxel: older files are then no longer found."""

_FACTS = 8
"""Numbers kept beside the voxels: first and end of the scan on X, Y and Z, and `Lesions`."""


@dataclass(frozen=True)
class Lesions:
    """How many of a scan's own voxels are foreground, and how many of these miss the grid."""

    voxels: int
    lost: int


@dataclass(frozen=True)
class PreparedScan:
    """A scan and its mask on the grid.

    Attributes:
        image: HU (X, Y, Z).
        mask: class numbers (X, Y, Z).
        covered: part of the grid that lies in the scan.
        lesions: counted on the scan's own voxels.
    """

    image: npt.NDArray[np.int16]
    mask: npt.NDArray[np.uint8]
    covered: Box
    lesions: Lesions


@dataclass(frozen=True)
class ScanCache:
    """The cache of one run's scans.

    Attributes:
        folder: where it lies; made when first needed.
        grid: of the scans.
        classes: of the masks, see `datamodules.ct.volume.read_mask`.
    """

    folder: Path
    grid: Grid
    classes: int

    def add(self, files: ScanFiles) -> "CachedScan":
        """Name a scan by its files as they are now; nothing is read yet.

        Raises:
            DataError: a file is gone.
        """
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
        """Image and mask, mapped from disk; made first if missing or damaged.

        Raises:
            DataError: a file cannot be used, or the cache cannot be written.
        """
        cache, key = self.cache, (VERSION, self.stamps, self.cache.grid, self.cache.classes)
        make = functools.cache(self._make)  # one reading for all three
        folder, shape = cache.folder, cache.grid.shape
        image = cached(folder, (*key, "image"), lambda: make().image, shape, np.int16)
        mask = cached(folder, (*key, "mask"), lambda: make().mask, shape, np.uint8)
        facts = cached(folder, (*key, "facts"), lambda: _facts(make()), (_FACTS,), np.int64)
        x0, x1, y0, y1, z0, z1, voxels, lost = facts.tolist()
        covered = (slice(x0, x1), slice(y0, y1), slice(z0, z1))
        return PreparedScan(image, mask, covered, Lesions(voxels, lost))

    def warn(self) -> None:
        """Warn of numbers that are no HU, also where the scan came from the cache."""
        path, key = self.files.image, (VERSION, self.stamps, "oddities")
        report(path, cached_text(self.cache.folder, key, self._oddities))

    def _oddities(self) -> str:
        if reported(self.files.image) is None:
            read_ct(self.files.image)
        return reported(self.files.image) or ""

    def _make(self) -> PreparedScan:
        ct = read_ct(self.files.image)
        mask = ct.from_own(read_mask(self.files.mask, ct, self.cache.classes))
        return prepare(ct, mask, self.cache.grid, self.cache.classes)


def prepare(ct: CTVolume, mask: npt.NDArray[np.uint8], grid: Grid, classes: int) -> PreparedScan:
    """Bring a scan and its mask, both (X, Y, Z) in RAS+, to the grid."""
    placement = grid.place(ct.hu.shape, ct.spacing)
    image, on_grid = placement.image(ct.hu), placement.mask(mask, classes)
    return PreparedScan(image, on_grid, placement.covered, _count(mask, placement))


def _count(mask: npt.NDArray[np.uint8], placement: Placement) -> Lesions:
    voxels = int(np.count_nonzero(mask))
    return Lesions(voxels, voxels - int(np.count_nonzero(mask[placement.reached])))


def _facts(scan: PreparedScan) -> npt.NDArray[np.int64]:
    ends = [end for part in scan.covered for end in (part.start, part.stop)]
    return np.array([*ends, scan.lesions.voxels, scan.lesions.lost], dtype=np.int64)
