"""Plan one ring: what coordinator and sites must agree on, worked out by each for itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_fl.aggregation.ring.fixed_point import FixedPointGrid
from lightning_fl.aggregation.ring.packing_parameters import LIMBS, RingParameters
from lightning_fl.seeds import derive_seed

CIPHERTEXTS_PER_BLOCK = 16
"""A block of 1 MiB: small enough to flow round the ring, large enough to be worth a message."""

AHEAD = 8
"""Blocks that a site encrypts before the ring's sum reaches it."""


@dataclass(frozen=True)
class RingPlan:
    """Say which integers a ring sums and how they are cut into blocks.

    A site contributes the integers of its update and after them those of its counts.

    Attributes:
        parameters: packing and encryption.
        grid: of the update's values.
        counts: names of the counts that are summed with the update.
    """

    parameters: RingParameters
    grid: FixedPointGrid
    counts: tuple[str, ...]

    @property
    def length(self) -> int:
        """Values of an update."""
        return sum(self.grid.sizes)

    @property
    def total(self) -> int:
        """Integers that a site contributes."""
        return self.length + LIMBS * len(self.counts)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.total // self._integers_per_block)

    def span(self, block: int) -> tuple[int, int]:
        """Return the first and one past the last of a block's integers."""
        start = block * self._integers_per_block
        return start, min(start + self._integers_per_block, self.total)

    def ciphertexts_in(self, block: int) -> int:
        """Return the number of ciphertexts of a block."""
        start, stop = self.span(block)
        return -(-(stop - start) // self.parameters.values_per_ciphertext)

    @property
    def _integers_per_block(self) -> int:
        return CIPHERTEXTS_PER_BLOCK * self.parameters.values_per_ciphertext


def ring_order(sites: Sequence[str], round_: int) -> tuple[str, ...]:
    """Return the initiator, then the others in the order of the ring.

    The sites take turns as the initiator. The rest is shuffled, so that neighbours change too. The
    order is not random, so that equal runs move equally many bytes between the same sites.
    """
    names = sorted(sites)
    initiator = names.pop(round_ % len(names))
    generator = np.random.default_rng(derive_seed(0, round_, "ring"))
    return (initiator, *(names[i] for i in generator.permutation(len(names))))
