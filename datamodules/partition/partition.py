"""What deals patients to hospitals."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from datamodules.index.row import Row
from lightning_fl.errors import ConfigError, DataError


class Partition(ABC):
    """Deal the patients of one data set to hospitals; all rows of a patient go to one."""

    def __call__(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return the rows with their new hospitals.

        Raises:
            ConfigError: a setting cannot work.
            DataError: two hospitals of the index have patients of one name, or a row lacks what
                decides its hospital.
        """
        first: dict[str, Row] = {}
        for row in rows:
            other = first.setdefault(row.patient, row)
            if other.site != row.site:
                raise DataError(
                    f"{row.place}: patient {row.patient!r} is at {row.site!r}, but at "
                    f"{other.site!r} in {other.place}. Give each patient a name of its own, or "
                    "drop `partition`."
                )
        homes = self.deal(rows)
        return tuple(replace(row, site=homes[row.patient]) for row in rows)

    @abstractmethod
    def deal(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return the hospital of each patient."""


def site_names(count: int) -> list[str]:
    """Return names that sort in their order: "site_01", "site_02", ..."""
    if count < 1:
        raise ConfigError(f"Expected `sites` to be at least 1, but got {count}.")
    return [f"site_{number:02d}" for number in range(1, count + 1)]
