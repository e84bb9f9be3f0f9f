"""The settings that coordinator and sites of a ring must agree on, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_fl.aggregation.ring.fixed_point import COARSEST, FINEST, Grid
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity
from lightning_fl.aggregation.ring.parameters import RingParameters, choose, is_compact
from lightning_fl.aggregation.ring.plan import RingPlan, sizes_of
from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.training.layout import Layout

Masking = Literal["pairwise", "initiator", "none"]
MOST_SAMPLES = 2**31
"""No site may be said to have more; its weight would leave nothing of the others' updates."""
FIRST_BITS = 24
"""The grid of a round that has no public ranges yet."""


@dataclass(frozen=True)
class RingSettings:
    """Settings of `CyclicCKKS`, checked; see there for their meaning.

    Raises:
        ConfigError: a value cannot work.
    """

    bits: int = 24
    masking: Masking = "pairwise"
    weights: str = "samples"
    max_samples: int = 16384
    allow_two_sites: bool = False
    pins: Mapping[str, str] = field(default_factory=dict)
    identities: Path | None = None

    def __post_init__(self) -> None:
        if self.masking not in ("pairwise", "initiator", "none"):
            raise ConfigError(
                f"Expected `masking` to be pairwise, initiator or none, but got {self.masking!r}."
            )
        if self.max_samples < 1:
            raise ConfigError(f"Expected `max_samples` to be positive, but got {self.max_samples}.")
        choose(self.bits, 2)  # refuses bits that no ring can have

    @property
    def compact(self) -> bool:
        """Whether values are packed on ranges, with error feedback."""
        return is_compact(self.bits)

    @property
    def hides_samples(self) -> bool:
        """Whether sites keep the number of their samples from the coordinator."""
        return self.weights == "hidden"

    def check_sites(self, sites: int) -> RingParameters:
        """Return the parameters for a number of sites.

        Raises:
            ConfigError: too few to hide in, or too many for these bits.
        """
        if sites < 2:
            raise ConfigError(
                f"A ring needs sites to hide among, but there is {sites}. For pooled training take "
                "`aggregator: lightning_fl.aggregation.Plain`."
            )
        if sites == 2 and not self.allow_two_sites:
            raise ConfigError(
                "With two sites the sum gives each of them the other's update, and gives the "
                "coordinator both with the help of either. Let a third site take part (see also "
                "`sites_per_round`), or accept this with `aggregator.allow_two_sites: true`."
            )
        return choose(self.bits, sites)

    def plan(self, sites: int, layout: Layout, exponents: list[int] | None) -> RingPlan:
        """Plan how the integers of a ring are cut and packed.

        Args:
            sites: in the ring.
            layout: of an update.
            exponents: of each tensor's step on the compact grid; None for the wide grid.

        Raises:
            ConfigError: too few or too many sites, or exponents that do not fit the layout.
        """
        self.check_sites(sites)
        sizes = sizes_of(layout)
        if exponents is None:
            bits = FIRST_BITS if self.compact else self.bits
            grid_exponents = (-bits,) * len(sizes)
        else:
            bits, grid_exponents = self.bits, self._checked(exponents, len(sizes))
        parameters = choose(bits, sites)
        grid = Grid(grid_exponents, sizes, parameters.limit)
        # the sites are counted too: if masks do not cancel, they do not add up
        counts = ("sites", *("clipped",) * self.compact, *("samples",) * self.hides_samples)
        return RingPlan(parameters, grid, counts)

    def _checked(self, exponents: Any, tensors: int) -> tuple[int, ...]:
        """Check exponents that the coordinator sent.

        Only the compact grid has any. On the wide grid a value outside is an error, and whoever
        chose the grid could learn from such errors how large a site's values are.
        """
        fits = isinstance(exponents, list) and len(exponents) == tensors and self.compact
        if not fits or not all(type(e) is int and FINEST <= e <= COARSEST for e in exponents):
            raise ConfigError(
                f"Expected for the compact grid an exponent from {FINEST} to {COARSEST} for each of"
                f" {tensors} tensors, and none for the wide one, but got {exponents}."
            )
        return tuple(exponents)

    def relative_weight(self, samples: int, largest: int | None) -> float:
        """Return a site's weight divided by the largest, or by `max_samples` with hidden counts.

        Raises:
            OutOfRangeError: it is not in (0, 1].
        """
        if self.weights == "equal":
            return 1.0
        largest = self.max_samples if self.hides_samples else largest
        if type(largest) is not int or not 0 < samples <= largest <= MOST_SAMPLES:
            # the count is not named: errors travel to the coordinator
            raise OutOfRangeError(
                f"the number of training samples is not from 1 to {largest}, which is said to be "
                "the most; with `weights: hidden` raise `aggregator.max_samples`"
            )
        return samples / largest

    def identity(self, site: str) -> Identity | None:
        """Read the identity of a site, where the site lives; None without `identities`."""
        return None if self.identities is None else Identity(self.identities / f"{site}{SUFFIX}")
