"""Hospitals whose classes differ in frequency (Hsu, Qi and Brown 2019, arXiv:1909.06335)."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.index.row import Row
from datamodules.partition.partition import Partition, site_names
from lightning_fl.errors import ConfigError, DataError

DRAWS = 1000
"""How often shares are drawn before the minimum is said to be out of reach."""


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Deal the patients of each class by shares drawn from a Dirichlet distribution.

    Args:
        alpha: how alike the hospitals are: 100 nearly equal, 0.1 nearly a class each.
        sites: number of hospitals.
        min_size: patients that each of them has at least.
        label: name of the label; a patient's class is the most frequent one of the patient's rows.
        seed: of the draws; the run's own seed does not change hospitals.
    """

    alpha: float
    sites: int
    min_size: int = 3
    label: str = "label"
    seed: int = 0

    def deal(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Draw until every hospital has its minimum, or refuse after `DRAWS` draws."""
        names = site_names(self.sites)
        if self.alpha <= 0:
            raise ConfigError(f"Expected `alpha` above 0, but got {self.alpha}.")
        by_class = self._patients_by_class(rows)
        total = sum(map(len, by_class))
        if self.sites * self.min_size > total:
            raise ConfigError(
                f"{self.sites} sites of {self.min_size} patients need "
                f"{self.sites * self.min_size}, but there are {total}. Lower `sites` or `min_size`."
            )
        rng = np.random.default_rng(self.seed)
        for _ in range(DRAWS):
            shares = rng.dirichlet([self.alpha] * self.sites, size=len(by_class))
            sizes = np.array([len(patients) for patients in by_class])
            cuts = np.round(np.cumsum(shares, axis=1) * sizes[:, None]).astype(int)[:, :-1]
            counts = np.diff(cuts, axis=1, prepend=0, append=sizes[:, None]).sum(axis=0)
            if counts.min() >= self.min_size:
                groups = zip(by_class, cuts, strict=True)
                return {
                    str(patient): name
                    for patients, cut in groups
                    for name, group in zip(
                        names, np.split(rng.permutation(patients), cut), strict=True
                    )
                    for patient in group
                }
        raise ConfigError(
            f"None of {DRAWS} draws with `alpha` {self.alpha} gave each of {self.sites} sites "
            f"{self.min_size} patients. Raise `alpha`, or lower `sites` or `min_size`."
        )

    def _patients_by_class(self, rows: Sequence[Row]) -> list[list[str]]:
        labels: dict[str, Counter[float]] = defaultdict(Counter)
        for row in rows:
            value = row.labels.get(self.label, math.nan)
            if math.isnan(value):
                raise DataError(
                    f"{row.place} has no label {self.label!r}, but the labels {list(row.labels)}. "
                    "Fill it in, set `label` of `partition`, or use BySize."
                )
            labels[row.patient][value] += 1
        classes: dict[float, list[str]] = defaultdict(list)
        for patient, values in sorted(labels.items()):
            classes[values.most_common(1)[0][0]].append(patient)
        return [patients for _, patients in sorted(classes.items())]
