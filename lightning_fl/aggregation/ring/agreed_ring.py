"""Check what a coordinator says of a ring before a site takes part in it."""

from dataclasses import dataclass
from typing import Any

from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.masks import digest_of_terms
from lightning_fl.aggregation.ring.ring_plan import RingPlan, ring_order
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.errors import ConfigError
from lightning_fl.wire.messages import Message, MessageError

TERMS = ("order", "largest", "exponents", "share")
"""What a coordinator says of a ring, in the message that asks a site to join."""


@dataclass(frozen=True)
class AgreedRing:
    """Describe a ring as a site has checked it; messages of another are refused.

    Attributes:
        run: identifier of the run.
        name: identifier of the ring.
        round: of the run.
        order: the sites, the initiator first.
        largest: number of samples by which weights are divided.
        share: part of all training sites' weight that is in the ring.
        plan: the ring's packing.
        origin: digest of the weights that the updates were trained from.
        terms: digest of all of these that all its sites must have alike.
    """

    run: str
    name: str
    round: int
    order: tuple[str, ...]
    largest: int | None
    share: float
    plan: RingPlan
    origin: str
    terms: str

    @classmethod
    def of(cls, message: Message, settings: RingSettings, site: HoldsUpdate) -> "AgreedRing":
        """Check the message that asks a site to join.

        Raises:
            MessageError: no such ring can be in this round, or none that the site accepts.
        """
        info = message.info
        order = checked_order(info, message.round, site)
        if site.name not in order:
            raise MessageError(f"The order {order} is no ring that {site.name!r} is in.")
        try:
            settings.check_sites(len(order))
        except ConfigError as error:
            raise MessageError(str(error)) from error
        plan = settings.plan(len(order), site.layout, info.get("exponents"))
        site.update(message.round, 0, 0)  # refuses a round that has no update here
        origin = site.origin(message.round)
        terms = digest_of_terms({key: info.get(key) for key in TERMS} | {"weights": origin})
        return cls(
            message.run,
            message.ring,
            message.round,
            order,
            info.get("largest"),
            checked_share(info.get("share")),
            plan,
            origin,
            terms,
        )

    def membership(self, site: str, mask_key: str) -> tuple[Any, ...]:
        """Return what a site signs to be in this ring."""
        return ("ring membership", self.run, self.round, self.name, site, mask_key, self.terms)

    def mean(self, digest: str) -> tuple[Any, ...]:
        """Return what the initiator signs of the mean, given by its digest."""
        return mean_statement(
            self.run, self.round, self.name, self.order, self.origin, self.share, digest
        )


def mean_statement(
    run: str, round_: int, ring: str, order: tuple[str, ...], origin: str, share: float, digest: str
) -> tuple[Any, ...]:
    """Return what the initiator of a ring signs of its mean, given by its digest."""
    return ("mean", run, round_, ring, list(order), origin, share, digest)


def checked_order(info: Any, round_: int, site: HoldsUpdate) -> tuple[str, ...]:
    """Return the order of a ring, which its sites and the round alone decide.

    Raises:
        MessageError: it is no list of sites that may be in this round, it has fewer than the site
            accepts, or another order is due.
    """
    order = info.get("order")
    if not isinstance(order, list) or not all(type(name) is str for name in order):
        raise MessageError(f"The order {order!r} is no list of sites.")
    if len(set(order)) != len(order):
        raise MessageError(f"The order {order} has a site twice.")
    strangers = [name for name in order if not site.is_drawn(name, round_)]
    if strangers:
        raise MessageError(f"Sites {strangers} do not train in round {round_}.")
    if len(order) < site.least_sites:
        raise MessageError(
            f"The ring has {len(order)} sites, but site {site.name!r} takes part with at least "
            f"{site.least_sites} (`least_sites`)."
        )
    if (due := ring_order(order, round_)) != tuple(order):
        raise MessageError(f"In round {round_} the order {list(due)} is due, and not {order}.")
    return tuple(order)


def checked_share(share: Any) -> float:
    """Return the share of a mean.

    Raises:
        MessageError: it is no number in (0, 1].
    """
    if type(share) is not float or not 0 < share <= 1:
        raise MessageError(f"Expected a share in (0, 1], but got {share!r}.")
    return share
