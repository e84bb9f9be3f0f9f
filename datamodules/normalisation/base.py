"""What every normalisation of scans does."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.normalisation.oddities import report

Measures = npt.NDArray[np.float64]
"""(C, 2): for each channel what is subtracted, and what is divided by then."""


class Normalisation(ABC):
    """Turn the numbers of a scan into shades: (value - offset) / scale, channel by channel.

    Subclasses are frozen dataclasses of plain values, so that a run can store them.
    """

    per_site: ClassVar[bool] = False
    """Whether the training patients of a site decide the numbers."""

    dtype: ClassVar[type[np.int16] | type[np.float32]] = np.float32
    """Of the values that `prepare` returns and that are resampled and cached."""

    @abstractmethod
    def measure(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        """Return offset and scale of one channel of a scan, (X, Y, Z) as `prepare` returned it."""

    def prepare(self, values: npt.NDArray[Any], source: Path) -> npt.NDArray[Any]:
        """Return the values of a scan, (C, X, Y, Z), without numbers that cannot be used.

        NaN and infinity become 0, with a warning.

        Raises:
            DataError: the numbers do not fit this normalisation; names them and the file.
        """
        if values.dtype.kind != "f":
            return values
        wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
        if not wrong:
            report(source, "")
            return values
        report(source, f"{wrong} of {values.size} voxels are NaN or infinite and are set to 0.")
        return np.where(np.isfinite(values), values, values.dtype.type(0))

    def padding(self, values: npt.NDArray[Any]) -> float:
        """Return what lies around a channel (X, Y, Z) on the grid: its background."""
        return float(values.min())

    def fitted(self, measures: Sequence[Measures]) -> Self:
        """Return the normalisation of a site whose training scans have these measures."""
        return self

    def of_scan(self, measures: Measures) -> Measures:
        """Return offsets and scales to use for a scan with these measures."""
        return measures

    def measures(self, values: npt.NDArray[Any]) -> Measures:
        """Measure each channel of a scan (C, X, Y, Z)."""
        return np.array([self.measure(channel) for channel in values], dtype=np.float64)

    def apply(self, slices: Tensor, measures: Measures) -> Tensor:
        """Turn slices of a scan with these measures into shades, in place.

        Args:
            slices: float32 (C * n, H, W), the first n of the first channel.
            measures: of the scan.
        """
        numbers = np.repeat(self.of_scan(measures), len(slices) // len(measures), axis=0)
        offset, scale = torch.from_numpy(numbers.astype(np.float32))[..., None, None].unbind(1)
        return self.shades(slices, offset, scale)

    def shades(self, values: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """Turn float32 values into shades, in place; all three can be broadcast."""
        return values.sub_(offset).div_(scale)

    def picture(self, shades: Tensor) -> Tensor:
        """Bring shades into [0, 1] for a picture, darkest to brightest."""
        low, high = shades.min(), shades.max()
        return (shades - low) / (high - low).clamp(min=1e-6)
