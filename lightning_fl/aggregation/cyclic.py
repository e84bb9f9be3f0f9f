"""Average by a ring of sites, under encryption and masks."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch

from lightning_fl.aggregation.base import (
    Aggregate,
    Aggregator,
    HoldsUpdate,
    Outcome,
    Updates,
    require_sites,
)
from lightning_fl.aggregation.ring.agreed_ring import checked_order, checked_share, mean_statement
from lightning_fl.aggregation.ring.fixed_point import MARGIN, USUAL, exponents_for
from lightning_fl.aggregation.ring.history import RingHistory
from lightning_fl.aggregation.ring.identity import SUFFIX, fingerprint, verify
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.packing_parameters import MAX_VALUES, choose
from lightning_fl.aggregation.ring.ring import Ring, RingBroken, Sums
from lightning_fl.aggregation.ring.ring_plan import RingPlan, ring_order
from lightning_fl.aggregation.ring.ring_settings import FIRST_BITS, Bounds, Masking, RingSettings
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.training.layout import Layout, vector_digest
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import MessageError
from lightning_fl.wire.operations import SiteOperation


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
        bounds: on what one site can do to the mean: by its samples, and by its update's norm.
        max_samples: with `weights: hidden`, a number no site's samples exceed; the smaller, the
            finer the result.
        allow_two_sites: accept a ring of two, whose sum gives each the other's update.
        pins: for every site the fingerprint of its identity, against a coordinator that hands out
            mask keys of its own; made by `python -m lightning_fl.hospital.make_identity`.
        identities: folder in which a site finds its own identity, <site>.identity.pem.
    """

    weight_choices = ("samples", "equal", "hidden")

    def __init__(
        self,
        *,
        bits: int = 24,
        masking: Masking = "pairwise",
        weights: Literal["samples", "equal", "hidden"] = "samples",
        max_samples: int = 16384,
        bounds: Bounds | None = None,
        allow_two_sites: bool = False,
        pins: Mapping[str, str] | None = None,
        identities: str | None = None,
    ) -> None:
        super().__init__(weights=weights)
        self.settings = RingSettings(
            bits=bits,
            masking=masking,
            weights=weights,
            max_samples=max_samples,
            bounds=bounds or Bounds(),
            allow_two_sites=allow_two_sites,
            pins=dict(pins or {}),
            identities=None if identities is None else Path(identities),
        )
        self.hides_samples = self.settings.hides_samples

    def check(self, per_round: int, names: Sequence[str], layout: Layout) -> None:
        """Refuse too few sites, bits that do not fit, missing pins and too long updates."""
        self.settings.check_sites(per_round)
        if self.settings.compact:
            choose(FIRST_BITS, per_round)
        if self.hides_samples and per_round < len(names):
            raise ConfigError(
                "With `weights: hidden` all sites must train in every round: the totals of "
                "different sites, put together, give each count. Leave `sites_per_round` out."
            )
        unpinned = sorted(set(names) - set(self.settings.pins))
        if self.settings.pins and unpinned:
            raise ConfigError(f"Where some sites are pinned, all must be; {unpinned} have no pin.")
        strangers = sorted(set(self.settings.pins) - set(names))
        if strangers:
            raise ConfigError(
                f"`aggregator.pins` names {strangers}, but the sites that train are "
                f"{sorted(names)}. Correct the names or remove the pins."
            )
        if layout.length > MAX_VALUES:
            raise ConfigError(
                f"The network has {layout.length} values; sums are exact up to {MAX_VALUES}. "
                "Choose a smaller one."
            )

    def protected(self, noise: SiteNoise | None, layout: Layout) -> Self:
        """Refuse hidden counts, the compact grid, and a clip that does not fit the grid."""
        if noise is not None:
            self.settings.check_private(noise, layout)
        return super().protected(noise, layout)

    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """Ask for rings until one closes: each ring goes on without the sites that are lost.

        Where sites have taken part in another ring of the round, they take part in that one alone.
        """
        least = max(updates.min_sites, 2 if self.settings.allow_two_sites else 3)
        lost: dict[str, SiteError] = {}
        rings = 0
        while True:
            sites = sorted(set(updates.samples) - set(lost))
            require_sites(len(sites), least, updates.round, lost)
            rings += 1
            try:
                return self._ring(channel, updates, sites, lost, rings)
            except RingBroken as broken:  # leaves out one site at least
                lost |= broken.lost or left_out(sites, broken.due, updates.round)

    def _terms(self, updates: Updates, sites: Sequence[str]) -> dict[str, Any]:
        """Return what all sites of a ring are told of it."""
        return {
            "order": list(ring_order(sites, updates.round)),
            "largest": max(self.weight(updates.samples[site]) for site in sites),
            "exponents": self._exponents(updates.memory, len(sites)),
            "share": float(updates.share(sites)),
        }

    def _ring(
        self,
        channel: Channel,
        updates: Updates,
        sites: Sequence[str],
        lost: Mapping[str, SiteError],
        rings: int,
    ) -> Aggregate:
        terms = self._terms(updates, sites)
        order = tuple(terms["order"])
        plan = self.settings.plan(len(order), updates.layout, terms["exponents"])
        updates.before_sum(sorted(order), len(order))  # a ring has the parts of all, or no sum
        ring = Ring(channel, updates.round, order, plan, terms)
        sums = ring.run()
        mean = self.settings.mean(sums.values, sums.counts, terms["largest"])
        if vector_digest(mean) != sums.mean:
            detail = f"signed another mean, {sums.mean[:16]}..., than its sums have"
            failure = SiteError(order[0], "ring_close", "garbled", detail)
            raise RingBroken({order[0]: failure})
        memory = {"ranges": self._ranges(sums, plan, updates)} if self.settings.compact else {}
        facts = {"rings": rings, **sums.counts}
        return Aggregate(mean, dict(lost), memory, facts, sums.proof)

    def _exponents(self, memory: Mapping[str, Any], sites: int) -> list[int] | None:
        if not self.settings.compact or "ranges" not in memory:
            return None
        return list(exponents_for(memory["ranges"], choose(self.settings.bits, sites).limit))

    def _ranges(self, sums: Sums, plan: RingPlan, updates: Updates) -> list[float]:
        """Return each tensor's range in the next round, from what is public after this one.

        The mean of a small tensor can happen to be 0: a range falls by half in a round at most,
        and is never below what is usual in the whole update.
        """
        sizes = sums.values.abs() / plan.parameters.sites
        usual = USUAL * float(sizes.median())
        tensors = torch.split(sizes, list(plan.grid.sizes))
        ranges = [max(MARGIN * float(tensor.max()), usual) for tensor in tensors]
        before = updates.memory.get("ranges", [0.0] * len(ranges))
        return [max(now, then / 2) for now, then in zip(ranges, before, strict=True)]

    @property
    def verifies(self) -> bool:
        """Whether sites have pinned identities, with which the initiator signs the mean."""
        return bool(self.settings.pins) and self.settings.masking == "pairwise"

    def check_samples(self, samples: Mapping[str, int]) -> None:
        """Refuse a site that has more of all samples than `bounds.share`."""
        self.settings.check_samples(samples)

    def sign(self, site: str, statement: Sequence[Any]) -> dict[str, str]:
        """Return a site's signature of a statement; {} without `identities`."""
        return self.settings.sign(site, statement)

    def check_signature(self, site: str, statement: Sequence[Any], signed: Any) -> None:
        """Refuse a statement that the pinned identity of a site has not signed."""
        verify(self.settings.pins.get(site, ""), site, statement, signed)

    def check_mean(self, site: HoldsUpdate, outcome: Outcome) -> None:
        """Refuse a mean that the initiator of the round's ring has not signed, with pins."""
        proof = outcome.proof
        sites = len(proof["order"]) if isinstance(proof.get("order"), list) else 0
        self.settings.check_norm(outcome.norm, sites, site.layout.length)
        if not self.verifies:
            return
        order = checked_order(proof, outcome.round, site)
        ring, share = proof.get("ring"), checked_share(outcome.share)
        history = RingHistory(site.folder, outcome.run)
        if site.name in order and not history.has(str(ring)):
            raise MessageError(f"Site {site.name!r} has not been in ring {ring!r} of this mean.")
        statement = mean_statement(
            outcome.run, outcome.round, str(ring), order, outcome.before, share, outcome.mean
        )
        self.check_signature(order[0], statement, proof)

    def check_site(self, site: HoldsUpdate) -> None:
        """Refuse an identity that is not the pinned one, and more samples than can be hidden."""
        identity = self.settings.identity(site.name)
        pin = self.settings.pins.get(site.name)
        if pin is not None and (identity is None or fingerprint(identity.public) != pin):
            raise ConfigError(
                f"Site {site.name!r} is pinned to the identity {pin[:16]}..., but has "
                f"{'none' if identity is None else 'another one'}. Set `aggregator.identities` to "
                f"the folder with its {site.name}{SUFFIX}, or correct the pin."
            )
        if self.hides_samples and site.samples() > self.settings.max_samples:
            raise ConfigError(
                f"Site {site.name!r} has more training samples than `aggregator.max_samples`, "
                f"{self.settings.max_samples}; raise it."
            )

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """Return the ring's operations."""
        return RingMember(self.settings, site, self.noise).operations()

    def describe(self) -> dict[str, Any]:
        """Return name and settings, and never a key."""
        return {
            **super().describe(),
            "bits": self.settings.bits,
            "masking": self.settings.masking,
            "pinned": sorted(self.settings.pins),
        }


def left_out(
    sites: Sequence[str], due: Mapping[str, Collection[str]], round_: int
) -> dict[str, SiteError]:
    """Return whom a round goes on without, where some sites take part in another ring alone.

    Either those who say so stay away, or those who are not in their ring. More sites are left one
    way or the other, so a single site that lies of its ring leaves out itself.

    Args:
        sites: those that were asked.
        due: by site the sites of the ring in which it takes part, as it says.
        round_: of the run.
    """
    rings = [ring for ring in map(frozenset, due.values()) if ring < set(sites)]
    going = max([set(sites) - set(due), *rings], key=len)
    lost = {}
    for site in sites:
        if site in due and site not in going:
            lost[site] = f"takes part in a ring of round {round_} over {sorted(due[site])} alone"
        elif site not in going:
            lost[site] = f"round {round_} goes on over {sorted(going)}, who were in a ring before"
    return {s: SiteError(s, "ring_join", "lost", reason) for s, reason in lost.items()}
