"""What the rings of secure aggregation cost each site, worked out from costs.csv."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lightning_fl.results.report.costs import split_operation
from lightning_fl.wire.records import CostRow

PARTS = ("encode", "encrypt", "add", "decrypt")
"""The parts of a ring's operations that are shown one by one; the rest is "other"."""
OTHER = "other"
OUTSIDE_ROUNDS = frozenset({"describe", "personalise"})
"""Operations before the first round and after the last."""


@dataclass(frozen=True)
class RingCosts:
    """The costs of a round's rings at one site, as the mean over the rounds it had a ring in.

    Attributes:
        site: name of the site, or "mean".
        bytes_up: sent.
        bytes_down: received.
        seconds: by part; a part that the site never had is not there.
    """

    site: str
    bytes_up: float
    bytes_down: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def is_ring(row: CostRow) -> bool:
    """Whether a row is about one of the ring's operations."""
    return row.operation.startswith("ring_")


def ring_costs(rows: Iterable[CostRow]) -> list[RingCosts]:
    """The costs of the rings at each site, in alphabetical order; empty without a ring.

    A ring that was dropped counts towards its round.
    """
    by_site: dict[str, list[CostRow]] = {}
    for row in rows:
        if is_ring(row):
            by_site.setdefault(row.site, []).append(row)
    return [_site_costs(site, by_site[site]) for site in sorted(by_site)]


def mean_costs(costs: Sequence[RingCosts]) -> RingCosts:
    """The mean over the sites; a part that a site never had counts as 0 there."""
    parts = dict.fromkeys(part for site in costs for part in site.seconds)
    return RingCosts(
        "mean",
        math.fsum(site.bytes_up for site in costs) / len(costs),
        math.fsum(site.bytes_down for site in costs) / len(costs),
        {
            part: math.fsum(site.seconds.get(part, 0.0) for site in costs) / len(costs)
            for part in parts
        },
    )


def ring_share(rows: Iterable[CostRow]) -> float:
    """The rings' share of the seconds that all sites spent on rounds; NaN without any.

    Rounds count from 1 on, and without the operations `OUTSIDE_ROUNDS`.
    """
    counted = [
        row
        for row in rows
        if row.round >= 1 and split_operation(row.operation)[0] not in OUTSIDE_ROUNDS
    ]
    total = math.fsum(row.seconds for row in counted)
    return math.fsum(row.seconds for row in counted if is_ring(row)) / total if total else math.nan


def _site_costs(site: str, rows: Sequence[CostRow]) -> RingCosts:
    """Means over the rounds that the rows are of."""
    rounds = len({row.round for row in rows})
    seconds: dict[str, list[float]] = {}
    for row in rows:
        part = split_operation(row.operation)[1]
        seconds.setdefault(part if part in PARTS else OTHER, []).append(row.seconds)
    return RingCosts(
        site,
        sum(row.bytes_up for row in rows) / rounds,
        sum(row.bytes_down for row in rows) / rounds,
        {part: math.fsum(values) / rounds for part, values in seconds.items()},
    )
