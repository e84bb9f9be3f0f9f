"""Hospitals that differ in their numbers of patients alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.index.row import Row
from datamodules.partition.partition import Partition, site_names
from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class BySize(Partition):
    """Deal shuffled patients to hospitals of given sizes.

    Args:
        sites: number of hospitals of equal size, or the share of each, e.g. [0.5, 0.3, 0.2].
        seed: of the shuffling; the run's own seed does not change hospitals.
    """

    sites: int | Sequence[float]
    seed: int = 0

    def deal(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Cut the shuffled patients by the shares."""
        shares = [1.0] * self.sites if isinstance(self.sites, int) else list(self.sites)
        names = site_names(len(shares))
        patients = sorted({row.patient for row in rows})
        if min(shares) <= 0:
            raise ConfigError(f"Expected shares above 0 in `sites`, but got {shares}.")
        shuffled = np.random.default_rng(self.seed).permutation(patients)
        cuts = np.round(np.cumsum(shares) / np.sum(shares) * len(patients)).astype(int)
        groups = np.split(shuffled, cuts[:-1])
        if not all(map(len, groups)):
            raise ConfigError(
                f"{len(patients)} patients leave a hospital of `sites` {shares} without any; ask "
                "for fewer hospitals or larger shares."
            )
        return {str(p): name for name, group in zip(names, groups, strict=True) for p in group}
