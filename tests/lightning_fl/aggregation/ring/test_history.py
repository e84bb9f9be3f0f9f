"""A round has sums over one set of sites, whatever a coordinator asks for."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.agreed_ring import unopened
from lightning_fl.aggregation.ring.history import KEPT, MOST_RINGS, RingHistory, RoundSpent
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, make
from lightning_fl.aggregation.ring.ring import Ring, RingBroken
from lightning_fl.aggregation.ring.ring_plan import ring_order
from lightning_fl.errors import RoundGivenUpError, TooFewSitesError
from lightning_fl.wire.messages import Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    Hosts,
    RingByHand,
    altered,
    join_hosts,
    make_hosts,
    random_updates,
)


def history(folder: Path | None = None, run: str = "run") -> RingHistory:
    return RingHistory(folder, run)


def join(
    rings: RingHistory,
    order: str,
    attempt: int = 0,
    *,
    name: str = "",
    terms: str = "t",
    vouched: Sequence[str] = (),
) -> str:
    """Check a ring of round 1 and join it; its name."""
    rings.check(1, order, attempt, terms, vouched)
    name = name or f"{order}-{random.random()}"
    rings.join(1, order, attempt, terms, name)
    return name


# ---------------------------------------------------------------------- the rules


def test_a_ring_of_the_same_sites_may_come_again() -> None:
    rings = history()
    first = join(rings, "ABCD")
    rings.finish(first)
    rings.open(join(rings, "ABCD"))
    join(rings, "ABCD")


def test_after_a_break_fewer_sites_go_on_and_never_others() -> None:
    rings = history()
    join(rings, "ABCD")
    with pytest.raises(RoundSpent, match="Only fewer sites"):
        join(rings, "ABCE", 1)
    with pytest.raises(RoundSpent, match="Only fewer sites"):
        join(rings, "ABCDE", 1)
    join(rings, "ABC", 1)
    with pytest.raises(RoundSpent, match="Only fewer sites"):
        join(rings, "ABD", 2)


def test_after_its_blocks_have_left_a_site_needs_the_word_of_another() -> None:
    rings = history()
    first = join(rings, "ABCD")
    rings.finish(first)
    with pytest.raises(RoundSpent, match="may have been opened"):
        join(rings, "ABC", 1)
    with pytest.raises(RoundSpent, match="may have been opened"):
        join(rings, "ABC", 1, vouched=["another"])
    join(rings, "ABC", 1, vouched=[first])


def test_after_the_sums_are_out_no_word_helps() -> None:
    rings = history()
    first = join(rings, "ABCD")
    rings.open(first)
    with pytest.raises(RoundSpent, match="may have been opened"):
        join(rings, "ABC", 1, vouched=[first])


def test_a_ring_over_all_is_refused_after_one_over_fewer_was_finished() -> None:
    rings = history()
    join(rings, "ABCD")
    rings.finish(join(rings, "ABC", 1))
    with pytest.raises(RoundSpent, match="may have been opened"):
        join(rings, "ABCD", 0)


def test_the_same_sites_need_the_same_terms_and_number() -> None:
    """Sums on another grid, or of other weights, would say more than one sum does."""
    rings = history()
    join(rings, "ABCD")
    with pytest.raises(RoundSpent, match="on other terms"):
        join(rings, "ABCD", terms="u")
    with pytest.raises(RoundSpent, match="on other terms"):
        join(rings, "ABCD", 1)


@pytest.mark.parametrize("attempt", [1, 2])
def test_nobody_chooses_the_initiator_by_the_number_of_the_ring(attempt: int) -> None:
    rings = history()
    with pytest.raises(RoundSpent, match="Ring 0 of round 1 is due"):
        join(rings, "ABCD", attempt)


def test_a_round_that_is_over_has_no_rings_and_a_round_has_only_so_many() -> None:
    rings = history()
    rings.join(1 + KEPT, "ABC", 0, "t", "ring")
    with pytest.raises(RoundSpent, match="Round 1 is over"):
        join(rings, "ABC")
    rings = history()
    for _ in range(MOST_RINGS):
        join(rings, "ABC")
    with pytest.raises(RoundSpent, match="has had 100 rings"):
        join(rings, "ABC")


def test_who_can_vouch_that_a_ring_stays_closed() -> None:
    rings = history()
    first = join(rings, "ABC")
    assert rings.can_vouch("A", 1, first)  # leads it and has given nothing out
    assert rings.can_vouch("B", 1, first)
    assert not rings.can_vouch("B", 1, "another")
    assert not rings.can_vouch("B", 2, first)
    rings.finish(first)
    assert rings.can_vouch("A", 1, first)
    assert not rings.can_vouch("B", 1, first)
    rings.open(first)
    assert not rings.can_vouch("A", 1, first)


def test_a_history_survives_a_restart_and_belongs_to_its_run(tmp_path: Path) -> None:
    first = join(history(tmp_path), "ABCD")
    rings = history(tmp_path)
    assert rings.has(first)
    rings.open(first)
    with pytest.raises(RoundSpent):
        join(history(tmp_path), "ABC", 1)
    join(history(tmp_path, run="another"), "ABC")


SUBSETS = st.lists(st.sampled_from("ABCDE"), min_size=1, unique=True).map(sorted)
STEPS = st.lists(st.tuples(SUBSETS, st.integers(0, 3), st.sampled_from(["", "finish", "open"])))


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_no_order_of_requests_opens_two_sets_of_sites(steps: list[Any]) -> None:
    """As the initiator: the strictest place, for it alone gives sums out."""
    rings = history()
    opened: set[frozenset[str]] = set()
    for number, (sites, attempt, then) in enumerate(steps):
        try:
            name = join(rings, "".join(sites), attempt, name=str(number))
        except RoundSpent:
            continue
        if then == "finish":
            rings.finish(name)
        if then == "open":
            rings.open(name)
            opened.add(frozenset(sites))
    assert len(opened) <= 1


# ---------------------------------------------------------------------- against sites


def pinned(folder: Path, sites: int = 5) -> Hosts:
    names = "ABCDE"[:sites]
    pins = {name: make(folder / f"{name}{SUFFIX}") for name in names}
    aggregator = CyclicCKKS(pins=pins, identities=str(folder))
    return join_hosts(aggregator, make_hosts(aggregator, random_updates(sites, 40)))


def summed(hosts: Hosts, sites: str, attempt: int) -> Tensor:
    """A ring over some sites, as a coordinator runs it that claims the others lost."""
    aggregator: Any = hosts.aggregator
    order = ring_order(sites, 1, attempt)
    terms = {"attempt": attempt, "largest": 1, "exponents": None, "share": 1.0}
    plan = aggregator.settings.plan(len(order), hosts.hosts["A"].layout, None)
    return Ring(hosts.channel, 1, order, plan, terms).run().values


def test_a_second_sum_over_fewer_sites_is_refused_by_all(tmp_path: Path) -> None:
    """The difference of the two would be the update of the site that is said to be lost."""
    hosts = pinned(tmp_path)
    summed(hosts, "ABCDE", 0)
    for sites, attempt in (("ABCD", 1), ("ABCD", 0), ("BCDE", 1)):
        with pytest.raises(RingBroken) as broken:
            summed(hosts, sites, attempt)
        assert broken.value.spent


def test_without_the_history_the_second_sum_gives_the_update_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the rule is for."""
    monkeypatch.setattr(RingHistory, "check", lambda *_: None)
    hosts = pinned(tmp_path)
    difference = summed(hosts, "ABCDE", 0) - summed(hosts, "ABCD", 1)
    torch.testing.assert_close(difference, hosts.hosts["E"].vector, rtol=0, atol=2**-20)


def test_the_same_sum_again_is_the_same(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    assert torch.equal(summed(hosts, "ABCDE", 0), summed(hosts, "ABCDE", 0))


def test_a_ring_that_broke_while_it_was_opened_gives_the_round_up(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    hosts.transport.on_answer = lambda op, site, answer: None if op == "ring_close" else answer
    with pytest.raises(RoundGivenUpError, match="may have been opened"):
        hosts.mean()
    hosts.transport.on_answer = None
    with pytest.raises(RingBroken) as broken:
        summed(hosts, "ABCD", 1)
    assert broken.value.spent


@pytest.mark.parametrize("lie", [{"share": 0.5}, {"largest": 2}])
def test_sites_that_are_told_other_terms_do_not_start_a_ring(
    tmp_path: Path, lie: dict[str, Any]
) -> None:
    hosts = pinned(tmp_path)
    hosts.transport.on_request = lambda op, site, request: (
        [altered(request, info=Message.decode(request).info | lie)]
        if (op, site) == ("ring_join", "C")
        else [request]
    )
    with pytest.raises(TooFewSitesError, match="ring membership said to be from site 'C'"):
        hosts.mean()
    assert not hosts.transport.answers("ring_pass")


def test_sites_with_updates_of_other_weights_do_not_start_a_ring(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    vars(hosts.hosts["C"])["origin"] = lambda round_: "other weights"
    with pytest.raises(TooFewSitesError, match="ring membership said to be from site"):
        hosts.mean()
    assert not hosts.transport.answers("ring_pass")


def test_the_word_of_a_stranger_or_a_forged_one_closes_no_ring(tmp_path: Path) -> None:
    pins = {name: make(tmp_path / f"{name}{SUFFIX}") for name in "ABCD"}
    aggregator = CyclicCKKS(pins=pins, identities=str(tmp_path), allow_two_sites=True)
    hosts = make_hosts(aggregator, random_updates(3, 20), round_=ROUND)
    ring = RingByHand(hosts, "ABC").begin()
    for site in "BC":
        ring.ask("ring_pass", site, ring.due("ABC".index(site)))
        break
    statement = unopened("run", ROUND, "ring-1", "A")
    good = {"site": "A", **Identity(tmp_path / f"A{SUFFIX}").sign(statement)}
    others: list[Any] = [
        None,
        {},
        good | {"site": "D"},
        good | {"site": "B"},
        good | Identity(tmp_path / f"D{SUFFIX}").sign(statement),
        {"site": "A", **Identity(tmp_path / f"A{SUFFIX}").sign(unopened("run", 9, "ring-1", "A"))},
        {
            "site": "A",
            **Identity(tmp_path / f"A{SUFFIX}").sign(unopened("x", ROUND, "ring-1", "A")),
        },
    ]
    second = RingByHand(hosts, ring_order("AB", ROUND, 1), ring="ring-2", info={"attempt": 1})
    for false in others:
        with pytest.raises(MessageError):
            second.ask("ring_join", "B", second.joining("B", unopened={"ring-1": false}))
    assert second.ask("ring_join", "B", second.joining("B")).info == {"spent": True}
    vouched = second.joining("B", unopened={"ring-1": good})
    assert "mask_key" in second.ask("ring_join", "B", vouched).info
