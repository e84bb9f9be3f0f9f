"""The hospital of a volume, told by any column of the table."""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class SiteRule:
    """Names hospitals by a column, by its texts or by intervals of its numbers.

    Names become names of files, so everything but letters, digits, "_", "-" and "." turns into "-".
    Hospitals whose names are then equal become one.

    Attributes:
        column: of the table.
        bins: ascending limits of the intervals, the lower one included; () takes texts.

    Raises:
        ConfigError: `bins` do not ascend.
    """

    column: str
    bins: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        finite = all(math.isfinite(limit) for limit in self.bins)
        if not finite or any(low >= high for low, high in pairwise(self.bins)):
            raise ConfigError(
                f"Expected `bins` to be ascending numbers, e.g. [1.0, 3.0], but got "
                f"{list(self.bins)}."
            )

    def name(self, text: str, where: str) -> str:
        """Name the hospital that a cell stands for; `where` it is goes into the DataError."""
        if self.bins:
            return self._interval(text, where)
        whole = re.sub(r"^(\d+)\.0+$", r"\1", text)  # tables with gaps write 1 as 1.0
        name = re.sub(r"[^\w.-]+", "-", whole).strip("-.")
        if not name:
            raise DataError(
                f"{where}: {self.column} is {text!r}, which has no letter or digit to name a "
                "hospital by. Rename it in the table."
            )
        return name

    def _interval(self, text: str, where: str) -> str:
        """Return "below-1", "1-to-3" or "3-and-above"."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise DataError(
                f"{where}: {self.column} is {text!r}, which is no number to put into `bins`. "
                "Correct it, or remove the row."
            )
        number = bisect_right(self.bins, value)
        if number == 0:
            return f"below-{self.bins[0]:g}"
        if number == len(self.bins):
            return f"{self.bins[-1]:g}-and-above"
        return f"{self.bins[number - 1]:g}-to-{self.bins[number]:g}"
