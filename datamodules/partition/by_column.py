"""Hospitals by what a table says of each patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datamodules.index.row import Row
from datamodules.partition.partition import Partition
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class ByColumn(Partition):
    """Make a hospital of each value in a column of the table, e.g. the scanner.

    Args:
        column: its name in the table.
    """

    column: str

    def deal(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return the value of each patient, who must have one alone."""
        homes: dict[str, str] = {}
        for row in rows:
            if self.column not in row.others:
                raise ConfigError(
                    f"`partition` has the column {self.column!r}, but the data have "
                    f"{[name for name in row.others if name]}."
                )
            value = row.others[self.column]
            if not value or homes.setdefault(row.patient, value) != value:
                raise DataError(
                    f"{row.place}: patient {row.patient!r} has {self.column} {value!r}, but needs "
                    f"the same text in all rows{_before(homes, row.patient)}. Correct the column."
                )
        return homes


def _before(homes: Mapping[str, str], patient: str) -> str:
    return f", as before {homes[patient]!r}" if patient in homes else ""
