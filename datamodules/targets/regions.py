"""Regions that may overlap or lie in one another, such as optic disc and cup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.targets.target import Classes, MaskTarget, Values, some
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Regions(MaskTarget):
    """Make a channel of 0 and 1 for each region.

    Args:
        regions: numbers of a mask that belong to each region, in the order of the net's channels,
            e.g. `{disc: [128, 255], cup: [255]}`.
        background: numbers that belong to no region.
        ignore: numbers that count in no loss and no score.
    """

    regions: Mapping[str, Sequence[int]]
    background: Sequence[int] = (0,)
    ignore: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check that there are regions."""
        if not self.regions or not all(self.regions.values()):
            raise ConfigError(
                f"Expected numbers of a mask for each of `regions`, but got {dict(self.regions)}."
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of regions."""
        return (len(self.regions),)

    def __call__(self, values: Values, path: Path) -> Classes:
        """Return 0 and 1 of shape (R, ...), for R regions and masks of shape (...)."""
        inside = [np.isin(values, numbers) for numbers in self.regions.values()]
        ignored = np.isin(values, self.ignore)
        unnamed = ~np.logical_or.reduce([*inside, ignored, np.isin(values, self.background)])
        if unnamed.any():
            raise DataError(
                f"Mask {path} holds {some(np.unique(values[unnamed]))}, which no region names; "
                f"`regions` are {dict(self.regions)}. Add them there, to `background` or to "
                "`ignore`."
            )
        return np.where(ignored, IGNORE, np.stack(inside).astype(np.int64))
