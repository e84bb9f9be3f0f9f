"""Masks that hold class numbers, or two numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.targets.target import Classes, MaskTarget, Values, some
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class ClassNumbers(MaskTarget):
    """Take the numbers of a mask as class numbers.

    Args:
        classes: 1 for binary masks of 0 and one other number, e.g. 255; otherwise the number of
            classes, background included, and masks hold 0 to classes - 1.
        ignore: numbers in a mask that count in no loss and no score.
    """

    classes: int = 1
    ignore: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check the number of classes."""
        if not 1 <= self.classes <= IGNORE:
            raise ConfigError(
                f"Expected `classes` to be between 1 and {IGNORE}, but got {self.classes}."
            )

    def __call__(self, values: Values, path: Path) -> Classes:
        """Return class numbers of the mask's shape."""
        ignored = np.isin(values, self.ignore) if self.ignore else np.zeros((), dtype=bool)
        result = np.where(ignored, 0, values) if self.ignore else values
        if self.classes == 1:
            foreground = result != 0
            # counting is four times as fast as comparing the foreground alone
            number = result.max(initial=0) or result.min(initial=0)
            of_one = np.count_nonzero(result == number)
            if foreground.any() and np.count_nonzero(foreground) != of_one:
                raise DataError(
                    f"Mask {path} holds {some(np.unique(values))}, but a binary mask holds 0 and "
                    "one other number. Set `classes` if these are classes, name them in `target` "
                    "by MaskMap, or use Threshold if they are shades of a JPEG."
                )
            classes = foreground.astype(np.int64)
        else:
            classes = result.astype(np.int64)
            wrong = (classes < 0) | (classes >= self.classes) | (classes != result)
            if wrong.any():
                raise DataError(
                    f"Mask {path} holds {some(np.unique(result[wrong]))}, but `classes` is "
                    f"{self.classes}, which allows 0 to {self.classes - 1}. Set `classes` to 1 for "
                    "a binary mask, name the values in `target` by MaskMap, or correct the mask."
                )
        return np.where(ignored, IGNORE, classes) if self.ignore else classes
