"""Slices of several scans as samples, read from the cache when they are asked for."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from datamodules.normalisation import Normalisation
from datamodules.volumes.scan_cache import CachedScan, PreparedScan
from datamodules.volumes.slices import Slicing
from lightning_fl.data.augmentation import augmented
from lightning_fl.data.module import Sample

Choose = Callable[[PreparedScan, Slicing], Sequence[int]]
"""Which slices of a scan are samples."""


class VolumeSlices(Dataset[Sample]):
    """Hold the chosen slices of some scans, scan by scan.

    No scan is read before the number of samples, or a sample, is asked for.

    Args:
        scans: each with the choice of its slices.
        slicing: how a scan becomes images.
        normalise: how values become shades.
        transform: augmentation of the image in shades and the mask, or None.
    """

    def __init__(
        self,
        scans: Sequence[tuple[CachedScan, Choose]],
        slicing: Slicing,
        normalise: Normalisation,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        self.scans = scans
        self.slicing = slicing
        self.normalise = normalise
        self.transform = transform

    @cached_property
    def table(self) -> list[tuple[int, int]]:
        """Scan and slice of every sample."""
        return [
            (number, int(index))
            for number, (scan, choose) in enumerate(self.scans)
            for index in choose(scan.load(), self.slicing)
        ]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a slice from 0 to {len(self) - 1}, but got {index}.")
        number, level = self.table[index]
        scan = self.scans[number][0].load()
        sample = Sample(
            image=self.normalise.apply(self.slicing.image(scan.image, level), scan.measures),
            mask=self.slicing.mask(scan.mask, level),
        )
        return sample if self.transform is None else augmented(sample, self.transform)


def slices_of_scan(scan: PreparedScan, slicing: Slicing) -> range:
    """Choose all slices but those wholly in the padding around the scan."""
    covered = scan.covered[slicing.axis]
    return range(covered.start, covered.stop)


def slices_with_lesion(scan: PreparedScan, slicing: Slicing) -> list[int]:
    """Choose the slices with foreground and as many others, evenly spread, but at least one."""
    foreground = slicing.foreground(scan.mask)
    others = np.setdiff1d(np.array(slices_of_scan(scan, slicing)), foreground)
    picked = _evenly(others, min(len(others), max(1, len(foreground))))
    chosen: list[int] = sorted([*foreground.tolist(), *picked.tolist()])
    return chosen


def _evenly(values: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """Pick so many values, each from the middle of an equal share."""
    middles = (np.arange(count) + 0.5) * len(values) / max(count, 1)
    return values.take(middles.astype(np.intp))
