"""Zero mean and unit standard deviation, by scan or by hospital."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from datamodules.normalisation.base import Measures, Normalisation

SMALLEST_SD = 1e-6
"""Share of the mean; a scan with less is constant, and dividing would blow up rounding errors."""


def mean_and_sd(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of the voxels that are not 0.

    Around a head or after the removal of the skull an MR scan is exactly 0. The share of these
    voxels depends on how the scan was cut and not on the tissue, so they must not count.
    """
    tissue = values[values != 0].astype(np.float64)
    mean, sd = (float(tissue.mean()), float(tissue.std())) if tissue.size else (0.0, 0.0)
    return mean, sd if sd > SMALLEST_SD * abs(mean) else 1.0


@dataclass(frozen=True)
class ZScore(Normalisation):
    """Give the voxels of each scan that are not 0 zero mean and unit standard deviation."""

    def measure(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        """Return mean and standard deviation."""
        return mean_and_sd(values)


@dataclass(frozen=True)
class SiteZScore(Normalisation):
    """Use one mean and one standard deviation for all scans of a hospital.

    They are those of its training patients, each of which weighs alike, and never leave the
    hospital. This keeps differences between scans that mean something, where one scanner gives the
    same numbers to the same tissue. A hospital that does not train takes each scan's own.

    Attributes:
        means: of each channel; left empty, and filled in from the training patients.
        sds: standard deviations of each channel, likewise.
    """

    per_site: ClassVar[bool] = True

    means: tuple[float, ...] = ()
    sds: tuple[float, ...] = ()

    def measure(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        """Return mean and standard deviation."""
        return mean_and_sd(values)

    def fitted(self, measures: Sequence[Measures]) -> Self:
        """Return a copy with the mean and standard deviation of all these scans together."""
        means, sds = np.moveaxis(np.stack(measures), 2, 0)
        mean = means.mean(axis=0)
        sd = np.sqrt((sds**2 + (means - mean) ** 2).mean(axis=0))
        return replace(self, means=tuple(mean.tolist()), sds=tuple(sd.tolist()))

    def of_scan(self, measures: Measures) -> Measures:
        """Return the hospital's numbers, or the scan's own where there are none."""
        return np.array([self.means, self.sds]).T[: len(measures)] if self.means else measures
