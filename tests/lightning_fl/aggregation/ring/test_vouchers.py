"""A site's word that a ring stays closed is good for that ring of that round alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring import history as history_module
from lightning_fl.aggregation.ring.agreed_ring import unopened
from lightning_fl.aggregation.ring.history import KEPT, RingHistory, RoundSpent
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, make
from lightning_fl.aggregation.ring.ring import Ring, RingBroken
from lightning_fl.aggregation.ring.ring_plan import ring_order
from lightning_fl.wire.messages import MessageError
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    Hosts,
    RingByHand,
    join_hosts,
    make_hosts,
    random_updates,
)


def pinned(folder: Path, sites: str, round_: int = 1) -> Hosts:
    pins = {site: make(folder / f"{site}{SUFFIX}") for site in sites}
    aggregator = CyclicCKKS(pins=pins, identities=str(folder))
    updates = random_updates(len(sites), 40)
    return join_hosts(aggregator, make_hosts(aggregator, updates, round_=round_))


# ---------------------------------------------------------------------- words got too early


def summed(hosts: Hosts, sites: str, round_: int, **terms: Any) -> Tensor:
    """The sums of a ring called "again" in the first try of the last round, else of any name."""
    terms = {"attempt": 0, "largest": 1, "exponents": None, "share": 1.0, **terms}
    order = ring_order(sites, round_, terms["attempt"])
    aggregator: Any = hosts.aggregator
    plan = aggregator.settings.plan(len(order), hosts.hosts[order[0]].layout, None)
    ring = Ring(hosts.channel, round_, order, plan, terms)
    if round_ == LAST and not terms["attempt"]:
        ring.name = "again"
    return ring.run().values


LAST = 2 + KEPT
"""The round that is attacked: the sites have forgotten the rings of round 1 by then."""


def test_a_word_got_in_another_round_closes_no_ring_of_the_same_name(tmp_path: Path) -> None:
    """Else a coordinator asks for it before it needs it, and takes one sum from another."""
    sites = "ABCD"
    leader, helper, *_ = ring_order(sites, LAST, 0)
    hosts = pinned(tmp_path, sites)
    early = RingByHand(hosts.hosts, ring_order(sites, 1, 0), ring="again", round_=1)
    early.ask("ring_join", helper, early.joining(helper))
    asked = early.ask("ring_drop", helper, early.message(helper, round=LAST)).info
    for round_ in range(1, LAST + 1):
        for host in hosts.hosts.values():
            host.train(round_, host.vector)
        summed(hosts, sites, round_)
    rest = "".join(site for site in sites if site != leader)
    word = asked.get("unopened", {})
    with pytest.raises(RingBroken):
        summed(hosts, rest, LAST, attempt=1, unopened={"again": word})
    assert not word


def test_a_word_is_about_a_ring_that_the_reader_joined_in_that_round(tmp_path: Path) -> None:
    """The reader checks it too: the site that gives its word may be of an older version."""
    hosts = pinned(tmp_path, "ABC", ROUND)
    RingByHand(hosts.hosts, "ABC").join()
    signed = Identity(tmp_path / f"A{SUFFIX}").sign(unopened("run", ROUND + 1, "ring-1", "A"))
    for host in hosts.hosts.values():
        host.train(ROUND + 1, host.vector)
    order = ring_order("ABC", ROUND + 1, 0)
    later = RingByHand(hosts.hosts, order, ring="ring-2", round_=ROUND + 1)
    joining = later.joining("B", unopened={"ring-1": {"site": "A", **signed}})
    with pytest.raises(MessageError, match="was not in ring 'ring-1'"):
        later.ask("ring_join", "B", joining)


def test_the_word_about_one_ring_closes_no_other_of_its_round(tmp_path: Path) -> None:
    hosts = pinned(tmp_path, "ABCD", ROUND)
    order = ring_order("ABCD", ROUND, 0)
    first = RingByHand(hosts.hosts, order).begin()
    first.due(2)
    signer, reader = order[0], order[1]
    signed = Identity(tmp_path / f"{signer}{SUFFIX}").sign(unopened("run", ROUND, "ring-0", signer))
    rest = ring_order([site for site in order if site != order[3]], ROUND, 1)
    second = RingByHand(hosts.hosts, rest, ring="ring-2", info={"attempt": 1})
    joining = second.joining(reader, unopened={"ring-1": {"site": signer, **signed}})
    with pytest.raises(MessageError, match="unopened ring said to be from site"):
        second.ask("ring_join", reader, joining)


# ---------------------------------------------------------------------- any order of requests


class Parties:
    """The histories of honest sites, and a coordinator that asks for what it likes.

    Attributes:
        opened: by round, the sets of sites over which sums came out.
    """

    def __init__(self, sites: str) -> None:
        self.histories = {site: RingHistory(None, "run") for site in sites}
        self.opened: dict[int, set[frozenset[str]]] = {}
        self._words: set[tuple[int, str, str]] = set()

    def join(self, site: str, order: Sequence[str], round_: int, attempt: int, name: str) -> bool:
        """Ask one site to join a ring; whether it does."""
        rings = self.histories[site]
        vouched = {
            ring
            for of_round, ring, signer in self._words
            if of_round == round_ and signer in rings.members(round_, ring)
        }
        if rings.has(name):
            return False
        try:
            rings.check(round_, order, attempt, "terms", vouched)
        except RoundSpent:
            return False
        rings.join(round_, order, attempt, "terms", name)
        return True

    def drop(self, site: str, round_: int, name: str) -> None:
        """Ask one site for its word."""
        if self.histories[site].can_vouch(site, round_, name):
            self._words.add((round_, name, site))

    def go_round(
        self, sites: Sequence[str], round_: int, attempt: int, name: str, finishing: int
    ) -> None:
        """Run a ring in which the first `finishing` of the others pass all their blocks."""
        order = ring_order(sites, round_, attempt)
        joined = [self.join(site, order, round_, attempt, name) for site in order]
        if not all(joined):
            return
        others = order[1:][:finishing]
        for site in others:
            self.histories[site].finish(name)
        if len(others) == len(order) - 1:
            self.histories[order[0]].open(name)
            self.opened.setdefault(round_, set()).add(frozenset(order))


SITES = "ABCD"
ROUNDS, NAMES = st.integers(1, 2), st.sampled_from("xyz")
SUBSETS = st.lists(st.sampled_from(SITES), min_size=2, unique=True).map(sorted)
GOES = st.tuples(st.just("go"), SUBSETS, ROUNDS, st.integers(0, 2), NAMES, st.integers(0, 3))
JOINS = st.tuples(st.just("join"), st.sampled_from(SITES), SUBSETS, ROUNDS, NAMES)
DROPS = st.tuples(st.just("drop"), st.sampled_from(SITES), ROUNDS, NAMES)
FIRST = ring_order(SITES, 2, 0)
EARLY = [
    ("join", FIRST[1], sorted(SITES), 1, "x"),
    ("drop", FIRST[1], 2, "x"),
    ("go", sorted(SITES), 2, 0, "y", 0),
    ("go", sorted(SITES), 2, 0, "x", 3),
    ("go", sorted(FIRST[1:]), 2, 1, "z", 3),
]
"""The attack above, where the sites forget a round as soon as the next one begins."""


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(GOES, JOINS, DROPS), max_size=12))
@example(EARLY)
def test_the_sets_of_sites_of_two_sums_of_a_round_never_overlap(steps: list[Any]) -> None:
    with patch.object(history_module, "KEPT", 1):
        parties = Parties(SITES)
        for kind, *asked in steps:
            if kind == "go":
                parties.go_round(*asked)
            elif kind == "drop":
                parties.drop(*asked)
            elif asked[0] in asked[1]:
                site, sites, round_, name = asked
                parties.join(site, ring_order(sites, round_, 0), round_, 0, name)
    for sets in parties.opened.values():
        assert sum(map(len, sets)) == len(frozenset().union(*sets))
