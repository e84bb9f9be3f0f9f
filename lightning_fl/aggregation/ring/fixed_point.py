"""Turn real values into integers on a stated grid and back, without loss on the grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_fl.aggregation.ring.packing_parameters import LIMB_BITS, LIMBS
from lightning_fl.errors import NonFiniteError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FINEST = -24
"""No grid is finer than steps of 2 ** -24, the wide one's default."""
COARSEST = 64
MARGIN = 4.0
"""A site's value may be this many times its tensor's largest value of the last mean."""
USUAL = 16.0
"""It may always be this many times the median of the last mean, which small tensors can miss."""


@dataclass(frozen=True)
class FixedPointGrid:
    """Hold each tensor's step, 2 ** exponent, and the largest integer.

    Attributes:
        exponents: of each tensor's step; steps are powers of two, so that grid values are exact
            floating-point numbers.
        sizes: values in each tensor, in the order of the flat vector.
        limit: largest absolute integer.
    """

    exponents: tuple[int, ...]
    sizes: tuple[int, ...]
    limit: int

    def steps(self, start: int, stop: int) -> Floats:
        """Return the step of each value from `start` to `stop`, shape (stop - start,)."""
        ends = np.cumsum(self.sizes)
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        steps = np.ldexp(1.0, np.array(self.exponents[first : last + 1], dtype=np.int64))
        bounds = np.concatenate(([start], ends[first:last], [stop]))
        return np.repeat(steps, np.diff(bounds))

    def to_integers(self, values: Floats, start: int) -> tuple[Integers, int]:
        """Round to the nearest grid points (half to even), clipped to the limit.

        Returns the integers, shape (count,), and how many were clipped. The values begin at `start`
        of the flat vector.

        Raises:
            NonFiniteError: a value is NaN or infinite, which has no place on a grid.
        """
        if not np.isfinite(values).all():
            raise NonFiniteError(f"values from {start} on are NaN or infinite")
        scaled = self._scaled(values, start)
        clipped = int(np.count_nonzero(np.abs(scaled) > self.limit))
        return np.clip(scaled, -self.limit, self.limit).astype(np.int64), clipped

    def to_values(self, integers: Integers, start: int) -> Floats:
        """Return the real values of integers (or of their sums), shape (count,)."""
        return integers * self.steps(start, start + len(integers))

    def outside(self, values: Floats, start: int) -> NDArray[np.bool_]:
        """Mark the values that `to_integers` would clip."""
        return np.abs(self._scaled(values, start)) > self.limit

    def _scaled(self, values: Floats, start: int) -> Floats:
        return np.rint(values / self.steps(start, start + len(values)))


def exponents_for(ranges: Sequence[float], limit: int) -> tuple[int, ...]:
    """Choose the smallest power-of-two steps that reach each tensor's range.

    A range is the largest absolute value expected, and `limit` the largest absolute integer.
    """
    exponents = (math.ceil(math.log2(r / limit)) if r > 0 else FINEST for r in ranges)
    return tuple(min(max(exponent, FINEST), COARSEST) for exponent in exponents)


def to_limbs(count: int) -> Integers:
    """Write a count from 0 to 2 ** 42 - 1 as six integers of seven bits, whose sums stay exact.

    Raises:
        ValueError: the count is outside.
    """
    if not 0 <= count < 2 ** (LIMB_BITS * LIMBS):
        raise ValueError(f"Expected a count from 0 to 2**{LIMB_BITS * LIMBS} - 1, but got {count}.")
    digits = [(count >> (LIMB_BITS * i)) % 2**LIMB_BITS for i in range(LIMBS)]
    return np.array(digits, dtype=np.int64)


def from_limbs(sums: Integers) -> int:
    """Return the sum of the counts whose limbs were summed."""
    return sum(int(digit) << (LIMB_BITS * i) for i, digit in enumerate(sums))
