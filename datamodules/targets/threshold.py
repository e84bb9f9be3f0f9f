"""Masks in shades, as JPEG leaves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.targets.target import Classes, MaskTarget, Values
from lightning_fl.data.module import IGNORE


@dataclass(frozen=True)
class Threshold(MaskTarget):
    """Make foreground, class 1, of all numbers from a threshold on.

    Args:
        at: smallest number of the foreground.
        ignore: numbers that count in no loss and no score.
    """

    at: float = 128
    ignore: Sequence[int] = ()

    def __call__(self, values: Values, path: Path) -> Classes:
        """Return 0 and 1 of the mask's shape."""
        classes = (values >= self.at).astype(np.int64)
        return np.where(np.isin(values, self.ignore), IGNORE, classes) if self.ignore else classes
