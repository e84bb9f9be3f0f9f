"""Hold the settings that coordinator and sites of a ring agree on, and what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from lightning_fl.aggregation.ring.fixed_point import COARSEST, FINEST, FixedPointGrid
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, Statement
from lightning_fl.aggregation.ring.packing_parameters import RingParameters, choose, is_compact
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.release import rounding
from lightning_fl.training.layout import Layout
from lightning_fl.wire.messages import MessageError

Masking = Literal["pairwise", "initiator", "none"]
MOST_SAMPLES = 2**31
"""No site may claim to have more; its weight would leave nothing of the others' updates."""
FIRST_BITS = 24
"""The grid of a round that has no public ranges yet."""
MOST_DEVIATIONS = 9.0
"""No noise is larger than so many standard deviations."""
MOST_ROUNDING = 0.01
"""Rounding may take so much of the clipping norm."""


@dataclass(frozen=True)
class Bounds:
    """Limit what one site can do to a mean.

    Args:
        share: the most of the mean that one site may have by its number of samples. A larger one is
            refused before the first round, and by the initiator of a ring.
        norm: largest L2 norm of a site's update. A longer one is scaled down at its site (Sun et
            al. 2019, arXiv 1911.07963), and all sites refuse a longer mean. null: no bound.

    Raises:
        ConfigError: a value is out of its range.
    """

    share: float = 0.9
    norm: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"Expected `bounds.share` to be above 0 and at most 1, but got {self.share}."
            )
        if self.norm is not None and not 0 < self.norm < math.inf:
            raise ConfigError(f"Expected `bounds.norm` to be positive, but got {self.norm}.")


@dataclass(frozen=True)
class RingSettings:
    """Check and hold the settings of `CyclicCKKS`; see there for their meaning.

    Raises:
        ConfigError: a value cannot work.
    """

    bits: int = 24
    masking: Masking = "pairwise"
    weights: str = "samples"
    max_samples: int = 16384
    bounds: Bounds = field(default_factory=Bounds)
    allow_two_sites: bool = False
    pins: Mapping[str, str] = field(default_factory=dict)
    identities: Path | None = None

    def __post_init__(self) -> None:
        if self.masking not in get_args(Masking):
            raise ConfigError(
                f"Expected `masking` to be pairwise, initiator or none, but got {self.masking!r}."
            )
        if self.max_samples < 1:
            raise ConfigError(f"Expected `max_samples` to be positive, but got {self.max_samples}.")
        if self.bounds.norm is not None and self.compact:
            raise ConfigError(
                f"`bounds.norm` needs the wide grid, but `bits` is {self.bits}: what the compact "
                "one carries over to the next round has no bound. Set `bits` to 24."
            )
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

        `exponents` are those of each tensor's step on the compact grid; None is the wide grid.

        Raises:
            ConfigError: too few or too many sites, or exponents that do not fit the layout.
        """
        self.check_sites(sites)
        # without tensors that have no value
        sizes = tuple(size for _, shape in layout.shared if (size := math.prod(shape)))
        if exponents is None:
            bits = FIRST_BITS if self.compact else self.bits
            grid_exponents = (-bits,) * len(sizes)
        else:
            bits, grid_exponents = self.bits, self._checked(exponents, len(sizes))
        parameters = choose(bits, sites)
        grid = FixedPointGrid(grid_exponents, sizes, parameters.limit)
        # the sites are counted too: if masks do not cancel, they do not add up
        weighs = self.weights != "equal"
        bounded = ("bounded",) * (self.bounds.norm is not None)
        counts = ("sites", *("clipped",) * self.compact, *("samples",) * weighs, *bounded)
        return RingPlan(parameters, grid, counts)

    def mean(self, sums: Tensor, counts: Mapping[str, int], largest: int | None) -> Tensor:
        """Return the mean of the sites' updates, shape (length,).

        Every party works it out like this, in float64 and rounded once.

        Args:
            sums: of the weighted updates, shape (length,).
            counts: of the ring.
            largest: number of samples by which weights were divided; None for `max_samples`.

        Raises:
            OutOfRangeError: one site's share of the samples may exceed `bounds.share`.
        """
        if self.weights == "equal":
            return (sums.double() / counts["sites"]).float()
        samples = counts["samples"]
        if largest is None or self.hides_samples:
            largest = self.max_samples
        elif largest > self.bounds.share * samples:
            raise OutOfRangeError(
                f"a site with {largest} of {samples} samples would have more of the mean than "
                f"`aggregator.bounds.share`, {self.bounds.share:g}"
            )
        return (sums.double() / (samples / largest)).float()

    def check_norm(self, norm: float, sites: int, length: int) -> None:
        """Refuse a mean that updates within `bounds.norm` cannot have, but for rounding.

        Raises:
            MessageError: names both norms.
        """
        if self.bounds.norm is None:
            return
        if not norm <= 1.001 * self.bounds.norm + sites * rounding(length, 2.0**-self.bits):
            raise MessageError(
                f"The mean has the norm {norm:.4g}, but no update may be longer than "
                f"`aggregator.bounds.norm`, {self.bounds.norm:g}: some site has sent more."
            )

    def check_samples(self, samples: Mapping[str, int]) -> None:
        """Refuse a site whose samples leave little of the others' updates.

        Raises:
            ConfigError: names the site.
        """
        if self.weights != "samples" or not samples:
            return
        site = max(samples, key=lambda name: samples[name])
        total = sum(samples.values())
        if samples[site] > self.bounds.share * total:
            raise ConfigError(
                f"Site {site!r} has {samples[site]} of {total} training samples, so the mean would "
                f"be little but its update. Set `aggregator.bounds.share`, {self.bounds.share:g}, "
                "to what all hospitals accept, or `aggregator.weights: equal`."
            )

    def check_private(self, noise: SiteNoise, layout: Layout) -> None:
        """Refuse hidden counts, the compact grid, and a clip that does not fit the grid.

        Raises:
            ConfigError: names the setting and the remedy.
        """
        if self.hides_samples:
            raise ConfigError(
                "`privacy` and `weights: hidden` do not go together: the ring gives out the total "
                "of the counts without noise. Set `aggregator.weights: equal`."
            )
        if self.bounds.norm is not None:
            raise ConfigError(
                "`privacy.clip` bounds the updates already. Leave `aggregator.bounds.norm` out."
            )
        if self.compact:
            raise ConfigError(
                f"`privacy` needs the wide grid, but `aggregator.bits` is {self.bits}: what the "
                "compact one carries over to the next round is in no account of privacy. Set it to "
                "24."
            )
        lost = rounding(layout.length, 2.0**-self.bits)
        if lost > MOST_ROUNDING * noise.clip:
            raise ConfigError(
                f"`privacy.clip` is {noise.clip}, but rounding {layout.length} values to "
                f"{self.bits} bits can move them by {lost:.2g}. Raise `clip` or `aggregator.bits`."
            )
        if noise.noise_multiplier:  # without noise nothing is promised
            for sites in range(max(noise.colluding + 1, 2), noise.most + 1):
                self._check_reach(noise, sites)

    def _check_reach(self, noise: SiteNoise, sites: int) -> None:
        """Refuse a grid that a value could leave: the error would tell the coordinator of it."""
        largest = noise.clip + MOST_DEVIATIONS * noise.share(sites)
        reach = choose(self.bits, sites).limit * 2.0**-self.bits
        if largest > reach:
            raise ConfigError(
                f"With `privacy.clip` {noise.clip} and a noise multiplier of "
                f"{noise.noise_multiplier:.4g} a site's values can be as large as {largest:.4g}, "
                f"but the grid for {sites} sites ends at {reach:.4g}. Lower `clip` or "
                "`aggregator.bits`."
            )

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

    def sign(self, site: str, statement: Statement) -> dict[str, str]:
        """Return a site's signature of a statement, where the site lives.

        It is {} without identities, and at a site whose signature nobody could check.
        """
        if self.pins and site not in self.pins:
            return {}
        identity = self.identity(site)
        return {} if identity is None else identity.sign(statement)
