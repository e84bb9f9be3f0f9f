"""Two percentiles of a scan as its darkest and brightest shade."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from datamodules.normalisation.base import Normalisation
from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class Percentiles(Normalisation):
    """Bring two percentiles of each scan to 0 and 1, and what lies beyond to these.

    Percentiles are of the voxels that are not 0, as in `ZScore`. Vessels and artefacts, which may
    be many times as bright as tissue, do not darken the rest.

    Attributes:
        low: percentile that becomes 0.
        high: percentile that becomes 1.

    Raises:
        ConfigError: they are not ascending within 0 and 100.
    """

    low: float = 0.5
    high: float = 99.5

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ConfigError(
                "Expected `low` and `high` to be ascending percentiles from 0 to 100, but got "
                f"{self.low} and {self.high}."
            )

    def measure(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        """Return the lower percentile, and how far above it the upper one lies."""
        tissue = values[values != 0]
        low, high = np.percentile(tissue, (self.low, self.high)) if tissue.size else (0, 1)
        return float(low), float(high - low) or 1.0

    def shades(self, values: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """Turn values into shades from 0 to 1, in place."""
        return super().shades(values, offset, scale).clamp_(0, 1)

    def picture(self, shades: Tensor) -> Tensor:
        """Return the shades as they are."""
        return shades
