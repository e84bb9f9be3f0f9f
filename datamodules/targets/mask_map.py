"""Masks whose numbers stand for classes, such as 0, 128 and 255."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.targets.target import Classes, MaskTarget, Values, check_classes, some
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class MaskMap(MaskTarget):
    """Turn the numbers of a mask into class numbers.

    Args:
        values: class of each number, e.g. `{0: 0, 128: 1, 255: 2}`.
        ignore: numbers that count in no loss and no score.
    """

    values: Mapping[int, int]
    ignore: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check the classes."""
        check_classes(self.values.values(), "values")
        both = sorted(set(self.values) & set(self.ignore))
        if both:
            raise ConfigError(f"`values` and `ignore` both name {both}; keep them in one.")

    def __call__(self, values: Values, path: Path) -> Classes:
        """Return class numbers of the mask's shape."""
        result = np.full(values.shape, -1, dtype=np.int64)
        for number, label in {**self.values, **dict.fromkeys(self.ignore, IGNORE)}.items():
            result[values == number] = label
        unnamed = result < 0
        if unnamed.any():
            raise DataError(
                f"Mask {path} holds {some(np.unique(values[unnamed]))}, which `values` of MaskMap "
                f"does not name; it names {sorted(self.values)}. Add them there or to `ignore`, or "
                "use Threshold if they are shades of a JPEG."
            )
        return result
