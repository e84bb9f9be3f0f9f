"""A data module whose hospitals and patients an index lists."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datamodules.index.index import Index
from datamodules.index.row import Row
from datamodules.partition.partition import Partition
from datamodules.site_folders import chosen_sites
from lightning_fl.data.module import FederatedDataModule, PatientSplit


class IndexedDataModule(FederatedDataModule):
    """Hold the rows of an index by hospital and patient; subclasses read their files.

    Args:
        index: which images there are.
        partition: deals the patients of one data set to hospitals; null keeps the index's own.
        sites: hospitals to use, in this order; null is all, by name.
        **kwargs: of the base class.

    Raises:
        ConfigError: a setting cannot work, or there is no such hospital.
        DataError: the index refuses its files.
    """

    def __init__(
        self,
        index: Index,
        *,
        partition: Partition | None = None,
        sites: Sequence[str] | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(**kwargs)
        rows = index.rows() if partition is None else partition(index.rows())
        by_site: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_site[row.site].append(replace(row, others={}))  # only the partition needs them
        names = chosen_sites(sites, sorted(by_site), "hospitals of the data")
        self._rows = {name: tuple(by_site[name]) for name in names}
        self._places = {name: _by_patient(rows) for name, rows in self._rows.items()}
        # Shared by copies for a site: a data set of 100,000 patients is split once.
        self._splits: dict[tuple[int, str], PatientSplit] = {}

    def site_names(self) -> tuple[str, ...]:
        """Return the hospitals of the index, or `sites`."""
        return tuple(self._rows)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return a hospital's patients, sorted."""
        return tuple(self._places[site])

    def rows(self, site: str, patients: Sequence[str] | None = None) -> tuple[Row, ...]:
        """Return the rows of some patients, None being all, in the order of the index."""
        if patients is None:
            return self._rows[site]
        places = sorted(place for patient in patients for place in self._places[site][patient])
        return tuple(self._rows[site][place] for place in places)

    def given_parts(self, site: str) -> Mapping[str, str]:
        """Return the part of each patient for whom the index has one."""
        return {row.patient: row.part for row in self._rows[site] if row.part is not None}

    def given_folds(self, site: str) -> Mapping[str, int]:
        """Return the fold of each patient for whom the index has one."""
        return {row.patient: row.fold for row in self._rows[site] if row.fold is not None}

    def split(self, site: str) -> PatientSplit:
        """Split as the index says, and draw what it leaves open."""
        key = self.seed, site
        if key not in self._splits:
            self._splits[key] = super().split(site)
        return self._splits[key]


def _by_patient(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the places of each patient's rows, patients sorted by name."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.patient].append(place)
    return dict(sorted(places.items()))
