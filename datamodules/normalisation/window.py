"""A window of Hounsfield units, for CT."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from datamodules.normalisation.base import Normalisation
from datamodules.normalisation.hounsfield import AIR, limit, refuse_shifted, to_int16
from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class Window(Normalisation):
    """Bring a window of HU to 0 and 1, and what lies beyond to these. For CT only.

    Attributes:
        level: middle of the window in HU, which becomes 0.5.
        width: of the window in HU.

    Raises:
        ConfigError: the window is empty.
    """

    dtype: ClassVar[type[np.int16] | type[np.float32]] = np.int16

    level: float = -600.0
    width: float = 1500.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ConfigError(f"Expected `width` to be positive, but got {self.width}.")

    def prepare(self, values: npt.NDArray[Any], source: Path) -> npt.NDArray[np.int16]:
        """Return whole HU within -1024 and 4000; NaN and infinity become air.

        A warning reports what was beyond.

        Raises:
            DataError: the values are no HU.
        """
        refuse_shifted(values, source)
        hu, lost = to_int16(values)
        limit(hu, source, lost)
        return hu

    def padding(self, values: npt.NDArray[Any]) -> float:
        """Return the HU of air."""
        return AIR

    def measure(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        """Return the lower end and the width."""
        return self.level - self.width / 2, self.width

    def shades(self, values: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """Turn HU into shades from 0 to 1, in place."""
        return super().shades(values, offset, scale).clamp_(0, 1)

    def picture(self, shades: Tensor) -> Tensor:
        """Return the shades as they are."""
        return shades
