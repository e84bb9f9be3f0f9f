"""CyclicCKKS: the weighted mean by a ring of sites, under encryption and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from lightning_fl.aggregation.base import (
    Aggregate,
    Aggregator,
    HoldsUpdate,
    SiteOperation,
    Updates,
    require,
)
from lightning_fl.aggregation.fixed_point import (
    COARSEST,
    FINEST,
    MARGIN,
    USUAL,
    Grid,
    exponents_for,
)
from lightning_fl.aggregation.identity import SUFFIX, Identity, fingerprint
from lightning_fl.aggregation.private_ring import check_private_ring
from lightning_fl.aggregation.ring import Ring, RingBroken, Sums, survivors
from lightning_fl.aggregation.ring_member import RingMember
from lightning_fl.aggregation.ring_parameters import MAX_VALUES, RingParameters, choose, is_compact
from lightning_fl.aggregation.ring_plan import RingPlan, ring_order, sizes_of
from lightning_fl.channel import Channel
from lightning_fl.differential_privacy.noise import SiteNoise
from lightning_fl.errors import ConfigError, OutOfRangeError, SiteError, TooFewSitesError
from lightning_fl.parameters import Layout

Masking = Literal["pairwise", "initiator", "none"]
MOST_SAMPLES = 2**31
"""No site may be said to have more; its weight would leave nothing of the others' updates."""
FIRST_BITS = 24
"""The grid of a round that has no public ranges yet."""


class CyclicCKKS(Aggregator):
    """Cyclic secure aggregation under CKKS (CSAHE, arXiv 2302.11571), exact and keyed per ring.

    The sum goes round the sites. The initiator, another site each round, makes a key pair for this
    ring, starts with its own encrypted and masked update, and decrypts what comes back; every
    other site adds its own. The coordinator relays. The result is the weighted mean of the updates
    on a fixed-point grid, exactly. See docs/secure_aggregation.md for who can learn what.

    Args:
        bits: 19 to 30 is the wide grid: so many binary places after the point, 16 bytes a value.
            8 to 18 is the compact grid: integers of so many bits on a range for each tensor that
            follows from the last mean update, 8 bytes a value or fewer; what is clipped or rounded
            off is carried to the next round.
        masking: "pairwise" masks cancel in the sum, so that even the initiator with its key and
            all messages sees only the sum; "initiator" is the paper's single mask; "none" for
            comparison.
        weights: "samples" (the coordinator knows the counts), "equal", or "hidden" (by samples,
            but the counts are summed in the ring and only their total comes out).
        max_samples: with `weights: hidden`, a number no site's samples exceed; the smaller, the
            finer the result.
        allow_two_sites: accept a ring of two, whose sum gives each the other's update.
        pins: for every site the fingerprint of its identity, against a coordinator that hands out
            mask keys of its own; made by `python -m lightning_fl.make_identity`.
        identities: folder in which a site finds its own identity, <site>.identity.pem.
    """

    known_weights = ("samples", "equal", "hidden")

    def __init__(
        self,
        *,
        bits: int = 24,
        masking: Masking = "pairwise",
        weights: Literal["samples", "equal", "hidden"] = "samples",
        max_samples: int = 16384,
        allow_two_sites: bool = False,
        pins: Mapping[str, str] | None = None,
        identities: str | None = None,
    ) -> None:
        super().__init__(weights=weights)
        if masking not in ("pairwise", "initiator", "none"):
            raise ConfigError(
                f"Expected `masking` to be pairwise, initiator or none, but got {masking!r}."
            )
        if max_samples < 1:
            raise ConfigError(f"Expected `max_samples` to be positive, but got {max_samples}.")
        choose(bits, 2)  # refuses bits that no ring can have
        self.bits = bits
        self.masking: Masking = masking
        self.max_samples = max_samples
        self.allow_two_sites = allow_two_sites
        self.pins = dict(pins or {})
        self.identities = None if identities is None else Path(identities)
        self.hides_samples = weights == "hidden"

    @property
    def compact(self) -> bool:
        """Whether values are packed on ranges, with error feedback."""
        return is_compact(self.bits)

    # ------------------------------------------------------------------ what both halves agree on

    def check_sites(self, sites: int) -> RingParameters:
        """The parameters for so many sites.

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
        """How the integers of a ring are cut and packed.

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
        """Exponents as the coordinator said them.

        Only the compact grid has any: on the wide one a value outside is an error, and whoever
        chose the grid could find out by such errors how large a site's values are.
        """
        known = isinstance(exponents, list) and len(exponents) == tensors and self.compact
        if not known or not all(type(e) is int and FINEST <= e <= COARSEST for e in exponents):
            raise ConfigError(
                f"Expected for the compact grid an exponent from {FINEST} to {COARSEST} for each of"
                f" {tensors} tensors, and none for the wide one, but got {exponents}."
            )
        return tuple(exponents)

    def relative_weight(self, samples: int, largest: int | None) -> float:
        """A site's weight divided by the largest, or by `max_samples` where counts are hidden.

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
        """The identity of a site, read where the site lives."""
        return None if self.identities is None else Identity(self.identities / f"{site}{SUFFIX}")

    # ------------------------------------------------------------------ the coordinator's half

    def check(self, per_round: int, names: Sequence[str], layout: Layout) -> None:
        """Refuse too few sites, bits that do not fit, missing pins and updates that are too long.

        Raises:
            ConfigError: names the reason and the remedy.
        """
        self.check_sites(per_round)
        if self.compact:
            choose(FIRST_BITS, per_round)
        if self.hides_samples and per_round < len(names):
            raise ConfigError(
                "With `weights: hidden` all sites must train in every round: the totals of "
                "different sites, put together, give each count. Leave `sites_per_round` out."
            )
        unpinned = sorted(set(names) - set(self.pins))
        if self.pins and unpinned:
            raise ConfigError(f"Where some sites are pinned, all must be; {unpinned} have no pin.")
        if layout.length > MAX_VALUES:
            raise ConfigError(
                f"The network has {layout.length} values; sums are exact up to {MAX_VALUES}. "
                "Choose a smaller one."
            )

    def protect(self, noise: SiteNoise | None, layout: Layout) -> None:
        """Refuse hidden counts, the compact grid, and a clip that does not fit the grid.

        Raises:
            ConfigError: names the setting and the remedy.
        """
        super().protect(noise, layout)
        if noise is not None:
            check_private_ring(noise, layout, bits=self.bits, hidden=self.hides_samples)

    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """Rings until one closes: a ring that loses sites is dropped and goes on without them.

        Raises:
            TooFewSitesError: too few sites are left for a ring.
        """
        lost: dict[str, SiteError] = {}
        attempt = 0
        while True:
            sites = survivors(list(updates.samples), lost)
            require(len(sites), self._least(updates), updates.round, lost)
            try:
                return self._ring(channel, updates, sites, attempt, lost)
            except RingBroken as broken:
                if broken.opened:
                    raise TooFewSitesError(
                        f"In round {updates.round} the initiator was asked for the sums, but they "
                        f"did not arrive ({broken}). A second sum over other sites could give away "
                        "an update, so none is made"
                    ) from broken
                lost |= broken.lost
                attempt += 1

    def _least(self, updates: Updates) -> int:
        return max(updates.min_sites, 2 if self.allow_two_sites else 3)

    def _ring(
        self,
        channel: Channel,
        updates: Updates,
        sites: Sequence[str],
        attempt: int,
        lost: Mapping[str, SiteError],
    ) -> Aggregate:
        weights = {site: self.weight(updates.samples[site]) for site in sites}
        largest = max(weights.values())
        exponents = self._exponents(updates.memory, len(sites))
        plan = self.plan(len(sites), updates.layout, exponents)
        order = ring_order(sites, updates.round, attempt)
        updates.before_sum(sites, len(sites))  # a ring has the parts of all its sites, or no sum
        instructions = {"largest": largest, "exponents": exponents}
        sums = Ring(channel, updates.round, order, plan, instructions).run()
        if self.hides_samples:
            total = sums.counts["samples"] / self.max_samples
        else:
            total = sum(weight / largest for weight in weights.values())
        mean = (sums.values.double() / total).float()
        memory = {"ranges": self._ranges(sums, plan, updates)} if self.compact else {}
        facts = {"rings": attempt + 1, **sums.counts}
        return Aggregate(mean, dict(lost), memory, facts)

    def _exponents(self, memory: Mapping[str, Any], sites: int) -> list[int] | None:
        if not self.compact or "ranges" not in memory:
            return None
        limit = choose(self.bits, sites).limit
        return list(exponents_for(memory["ranges"], limit))

    def _ranges(self, sums: Sums, plan: RingPlan, updates: Updates) -> list[float]:
        """The range of each tensor in the next round, from what is public after this one.

        The mean of a small tensor can happen to be 0: a range falls by half in a round at most,
        and is never below what is usual in the whole update.
        """
        sizes = sums.values.abs() / plan.parameters.sites
        usual = USUAL * float(sizes.median())
        tensors = torch.split(sizes, list(plan.grid.sizes))
        found = [max(MARGIN * float(tensor.max()), usual) for tensor in tensors]
        before = updates.memory.get("ranges", [0.0] * len(found))
        return [max(now, then / 2) for now, then in zip(found, before, strict=True)]

    def check_site(self, site: HoldsUpdate) -> None:
        """Refuse, at the site and before training, what would fail in its first ring.

        Raises:
            ConfigError: an identity that cannot be read or is not the pinned one, or too many
                samples for hidden counts.
        """
        identity = self.identity(site.name)
        pin = self.pins.get(site.name)
        if pin is not None and (identity is None or fingerprint(identity.public) != pin):
            raise ConfigError(
                f"Site {site.name!r} is pinned to the identity {pin[:16]}..., but has "
                f"{'none' if identity is None else 'another one'}. Set `aggregator.identities` to "
                f"the folder with its {site.name}{SUFFIX}, or correct the pin."
            )
        if self.hides_samples and site.samples() > self.max_samples:
            raise ConfigError(
                f"Site {site.name!r} has more training samples than `aggregator.max_samples`, "
                f"{self.max_samples}; raise it."
            )

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """The ring's operations."""
        return RingMember(self, site).operations()

    def describe(self) -> dict[str, Any]:
        """Name and settings; no key ever."""
        return {
            **super().describe(),
            "bits": self.bits,
            "masking": self.masking,
            "pinned": sorted(self.pins),
        }
