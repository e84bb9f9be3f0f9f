"""A site's update as it goes into one sum: clipped, with the site's share of the noise."""

import math
import secrets
from collections.abc import Callable

import numpy as np
from torch import Tensor

from lightning_fl.errors import NonFiniteError
from lightning_fl.privacy.gaussian import Floats, gaussian
from lightning_fl.privacy.noise import SiteNoise

BLOCK = 2**22
"""Values read at a time for the norm."""
KEY_BYTES = 32


class Release:
    """One site's part in one sum; its noise belongs to this object and to no other.

    A site makes it before it encrypts, so the noise travels under the masks and nobody sees an
    update without it.

    An update Delta of weight w goes into the sum as

        w Delta min(1, clip / |w Delta|) + noise

    with Gaussian noise of standard deviation `noise.share(sites)`. On a grid, both terms are
    rounded by themselves and the norm is cut by what rounding can add to it: the rounded first
    term is no longer than `clip`, and the second one depends on no data.

    Args:
        noise: settings of the run.
        update: reads values `start` to `stop` of the update.
        length: of the update.
        weight: the site's relative weight, in (0, 1].
        sites: that are in the sum.
        step: of the grid; 0 for none.

    Raises:
        ConfigError: too few or too many sites.
        NonFiniteError: the update holds NaN or infinity.
    """

    def __init__(
        self,
        noise: SiteNoise,
        update: Callable[[int, int], Tensor],
        length: int,
        *,
        weight: float,
        sites: int,
        step: float = 0.0,
    ) -> None:
        self._std = noise.share(sites)
        self._update = update
        self._weight = weight
        self._step = step
        self._key = secrets.token_bytes(KEY_BYTES)
        norm = weight * norm_of(update, length)
        if not math.isfinite(norm):  # no factor would bound it
            raise NonFiniteError("an update whose norm is NaN or infinite cannot be clipped")
        bound = noise.clip - rounding(length, step)
        self.factor = min(1.0, bound / norm) if norm > 0 else 1.0

    def weighted(self, start: int, stop: int) -> Floats:
        """Return values of the part as it is summed, shape (stop - start,)."""
        values = self._clipped(start, stop) * self._weight
        return self._rounded(values) + self._rounded(self._noise(start, stop))

    def unweighted(self, start: int, stop: int) -> Floats:
        """Return these values before they are multiplied by the weight; there is no grid here."""
        return self._clipped(start, stop) + self._noise(start, stop) / self._weight

    def _clipped(self, start: int, stop: int) -> Floats:
        values: Floats = self._update(start, stop).double().numpy() * self.factor
        return values

    def _noise(self, start: int, stop: int) -> Floats:
        if self._std == 0:
            return np.zeros(stop - start)
        return self._std * gaussian(self._key, start, stop - start)

    def _rounded(self, values: Floats) -> Floats:
        return values if self._step == 0 else np.rint(values / self._step) * self._step


def rounding(length: int, step: float) -> float:
    """Return by how much rounding to a grid can lengthen a vector."""
    return step / 2 * math.sqrt(length)


def norm_of(update: Callable[[int, int], Tensor], length: int) -> float:
    """Return the L2 norm, read in blocks so that the update need not fit into memory."""
    blocks = (update(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))
    return math.sqrt(math.fsum(float(block.double().square().sum()) for block in blocks))
