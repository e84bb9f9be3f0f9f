"""What every target has."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from datamodules.index.row import Row
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError

Values = npt.NDArray[Any]
"""Numbers of a mask file, of any shape: (H, W) or (X, Y, Z)."""
Classes = npt.NDArray[np.int64]


class Target(ABC):  # noqa: B024  (its two kinds are called with different things)
    """Make the truth of a sample; subclasses are frozen dataclasses that YAML names."""


class MaskTarget(Target):
    """Make class numbers of the numbers in a mask file."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Axes that the truth has before those of the mask: (R,) for R regions, otherwise ()."""
        return ()

    @abstractmethod
    def __call__(self, values: Values, path: Path) -> Classes:
        """Return class numbers, int64 of the mask's shape, or of 0 and 1 with regions before it.

        Pixels that count nowhere are `IGNORE`.

        Raises:
            DataError: the mask holds numbers that have no meaning; names the file.
        """


class LabelTarget(Target):
    """Make the label of a whole image."""

    @abstractmethod
    def __call__(self, row: Row) -> Tensor:
        """Return a class number, int64 (), or float32 (L,) of 0, 1 and NaN for several labels.

        Raises:
            ConfigError: the data have no such label.
            DataError: the row's label has no meaning; names its place.
        """


def some(values: Iterable[float]) -> str:
    """Name the first few of some numbers, e.g. "the values [3, 7]"."""
    shown = [f"{value:g}" for value in values]
    return f"the values [{', '.join(shown[:8])}{', ...' if len(shown) > 8 else ''}]"


def check_classes(numbers: Iterable[int], name: str) -> None:
    """Refuse class numbers of a setting that a mask cannot hold."""
    wrong = sorted(number for number in numbers if not 0 <= number < IGNORE)
    if wrong:
        raise ConfigError(
            f"`{name}` names the classes {wrong}, but classes are 0 to {IGNORE - 1}. List values "
            "that count nowhere in `ignore`."
        )
