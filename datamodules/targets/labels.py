"""Labels of whole images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.index.row import Row
from datamodules.targets.target import LabelTarget
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Labels(LabelTarget):
    """Take one class number, or several labels of which some may be missing.

    Args:
        names: of several labels, each 0, 1 or missing, in the order of the net's channels; () for
            one class number.
        column: name of the one label.
        classes: how many class numbers there are, 0 to classes - 1.
        ignore: values that count as missing, e.g. -1 for an uncertain finding.
    """

    names: Sequence[str] = ()
    column: str = "label"
    classes: int = 2
    ignore: Sequence[float] = ()

    def __call__(self, row: Row) -> Tensor:
        """Return a class number, int64 (), or float32 (L,) of 0, 1 and NaN."""
        if not self.names:
            value = self._value(row, self.column)
            if value not in range(self.classes):
                what = "missing" if math.isnan(value) else f"{value:g}"
                raise DataError(
                    f"{row.place}: the label {self.column!r} is {what}, but class numbers are 0 to "
                    f"{self.classes - 1}. Correct or remove the row, or set `classes` of Labels."
                )
            return torch.tensor(int(value))
        values = [self._value(row, name) for name in self.names]
        for name, value in zip(self.names, values, strict=True):
            if not (value in (0, 1) or math.isnan(value)):
                raise DataError(
                    f"{row.place}: the label {name!r} is {value:g}, but one of several labels is 0 "
                    "or 1, or empty if it is missing. Correct it, or add it to `ignore` of Labels."
                )
        return torch.tensor(values, dtype=torch.float32)

    def _value(self, row: Row, name: str) -> float:
        if name not in row.labels:
            raise ConfigError(
                f"{row.place} has no label {name!r}; the data have the labels {list(row.labels)}. "
                "Set `names` or `column` of Labels, or add it."
            )
        value = row.labels[name]
        return math.nan if value in self.ignore else value
