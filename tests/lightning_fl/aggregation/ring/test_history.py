"""A round has sums over one set of sites, whatever a coordinator asks for."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.history import KEPT, MOST_RINGS, RingDue, RingHistory
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.ring import Ring, RingBroken
from lightning_fl.aggregation.ring.ring_plan import ring_order
from lightning_fl.aggregation.ring.shares import needed_shares
from lightning_fl.errors import TooFewSitesError
from lightning_fl.wire.messages import Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    Hosts,
    RingByHand,
    altered,
    join_hosts,
    make_hosts,
    random_updates,
)


def history(folder: Path | None = None, run: str = "run") -> RingHistory:
    return RingHistory(folder, run)


def join(rings: RingHistory, order: str, *, terms: str = "t") -> str:
    """Check a ring of round 1 and join it; its name."""
    rings.check(1, order, terms)
    name = f"{order}-{random.random()}"
    rings.join(1, order, terms, name)
    return name


def due(rings: RingHistory, order: str) -> str:
    """The sites of the ring that a site takes part in, in place of the one asked for."""
    with pytest.raises(RingDue) as refused:
        join(rings, order)
    return "".join(refused.value.sites)


# ---------------------------------------------------------------------- the rules


def test_a_ring_of_the_same_sites_may_come_again() -> None:
    rings = history()
    join(rings, "ABCD")
    rings.open(1, join(rings, "ABCD"))
    join(rings, "ABCD")


def test_after_a_break_fewer_go_on_and_never_others() -> None:
    rings = history()
    join(rings, "ABCD")
    assert due(rings, "ABCE") == "ABC"
    assert due(rings, "ABCDE") == "ABCD"
    join(rings, "ABC")
    assert due(rings, "ABD") == "AB"
    assert due(rings, "ABCD") == "ABC"


def test_after_a_site_has_opened_a_sum_it_takes_part_in_no_other() -> None:
    rings = history()
    join(rings, "ABCD")
    rings.open(1, join(rings, "ABC"))
    assert due(rings, "ABCD") == "ABC"
    assert due(rings, "AB") == "ABC"
    join(rings, "ABC")


def test_a_site_opens_the_last_ring_that_it_has_joined() -> None:
    rings = history()
    first, second = join(rings, "ABCD"), join(rings, "ABC")
    for ring in (first, "another"):
        with pytest.raises(MessageError, match="not the last one that this site has joined"):
            rings.open(1, ring)
    rings.open(1, second)


def test_the_same_sites_need_the_same_terms() -> None:
    """Sums on another grid, or of other weights, would say more than one sum does."""
    rings = history()
    join(rings, "ABCD")
    with pytest.raises(MessageError, match="on other terms"):
        join(rings, "ABCD", terms="u")


def test_a_round_that_is_over_has_no_rings_and_a_round_has_only_so_many() -> None:
    rings = history()
    rings.join(1 + KEPT, "ABC", "t", "ring")
    with pytest.raises(MessageError, match="Round 1 is over"):
        join(rings, "ABC")
    rings = history()
    for _ in range(MOST_RINGS):
        join(rings, "ABC")
    with pytest.raises(MessageError, match="has had 100 rings"):
        join(rings, "ABC")


def test_a_history_survives_a_restart_and_belongs_to_its_run(tmp_path: Path) -> None:
    first = join(history(tmp_path), "ABCD")
    rings = history(tmp_path)
    assert rings.has(first)
    rings.open(1, first)
    assert due(history(tmp_path), "ABC") == "ABCD"
    join(history(tmp_path, run="another"), "ABC")


# ---------------------------------------------------------------------- any order of requests


class Liar:
    """A coordinator that asks four sites for what it likes.

    Attributes:
        opened: the sets of sites whose sum it can read.
    """

    def __init__(self, folder: Path) -> None:
        self.aggregator = CyclicCKKS(allow_two_sites=True)
        self.hosts = make_hosts(self.aggregator, random_updates(len(SITES), 3))
        for name, host in self.hosts.items():
            host.folder = folder / f"{name}-{random.random()}"
            host.folder.mkdir()
        self.opened: set[frozenset[str]] = set()
        self._rings: list[tuple[RingByHand, Message]] = []
        self._revealed: dict[str, set[str]] = {}

    def ring(self, sites: list[str]) -> None:
        """Go round as far as the sites do."""
        order = ring_order(sites, 1)
        ring = RingByHand(self.hosts, order, ring=f"ring-{random.random()}", round_=1)
        try:
            ring.begin()
            closed = ring.ask("ring_close", order[0], ring.due(len(order)))
            self._rings.append((ring, closed))
        except (MessageError, KeyError):
            return

    def reveal(self, number: int, site: str) -> None:
        """Ask a site for its share of a ring that has gone round."""
        for ring, closed in self._rings[number : number + 1]:
            if site not in ring.order[1:]:
                return
            info = {"share": closed.info["shares"][site][0]}
            try:
                ring.ask("ring_reveal", site, ring.message(site, info=info))
            except MessageError:
                return
            revealed = self._revealed.setdefault(ring.ring, set())
            revealed.add(site)
            if len(revealed) >= needed_shares(len(ring.order)):
                self.opened.add(frozenset(ring.order))

    def restart(self, site: str) -> None:
        """The site's process begins anew, with its folder."""
        host = self.hosts[site]
        host.operations = dict(self.aggregator.site_operations(host))


SITES = "ABCD"
SUBSETS = st.lists(st.sampled_from(SITES), min_size=2, unique=True).map(sorted)
RINGS = st.tuples(st.just("ring"), SUBSETS)
REVEALS = st.tuples(st.just("reveal"), st.integers(0, 3), st.sampled_from(SITES))
RESTARTS = st.tuples(st.just("restart"), st.sampled_from(SITES))
ALL, FEWER = ring_order(SITES, 1), ring_order(ring_order(SITES, 1)[1:], 1)
TWO_SUMS: list[Any] = [
    ("ring", sorted(ALL)),
    *(("reveal", 0, site) for site in ALL),
    ("ring", sorted(FEWER)),
    *(("reveal", 1, site) for site in FEWER),
]
HALF: list[Any] = [
    ("ring", sorted(ALL)),
    ("reveal", 0, ALL[1]),
    ("ring", sorted(FEWER)),
    *(("reveal", number, site) for site in ALL for number in (0, 1)),
]
LATE: list[Any] = [
    ("ring", sorted(ALL)),
    ("ring", sorted(FEWER)),
    *(("reveal", number, site) for site in SITES for number in (0, 1)),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(RINGS, REVEALS, REVEALS, RESTARTS), max_size=14))
@example(TWO_SUMS)
@example(HALF)
@example(LATE)
def test_no_order_of_requests_opens_two_sums_with_a_common_site(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    liar = Liar(tmp_path_factory.mktemp("sites"))
    for kind, *asked in steps:
        getattr(liar, kind)(*asked)
    assert sum(map(len, liar.opened)) == len(frozenset().union(*liar.opened))


def test_the_liar_opens_two_sums_of_sites_that_remember_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: what it looks for can be there."""
    for rule in ("check", "open"):
        monkeypatch.setattr(RingHistory, rule, lambda *_: None)
    liar = Liar(tmp_path)
    for kind, *asked in TWO_SUMS:
        getattr(liar, kind)(*asked)
    assert liar.opened == {frozenset(ALL), frozenset(FEWER)}


def test_a_site_gives_its_share_of_the_last_ring_that_it_has_joined(tmp_path: Path) -> None:
    liar = Liar(tmp_path)
    for kind, *asked in LATE:
        getattr(liar, kind)(*asked)
    assert liar.opened == {frozenset(FEWER)}


def test_a_site_that_has_joined_another_ring_gives_no_share_of_the_one_before(
    tmp_path: Path,
) -> None:
    liar = Liar(tmp_path)
    liar.ring([*SITES])
    [(ring, closed)] = liar._rings
    site = FEWER[-1]
    second = RingByHand(liar.hosts, FEWER, ring="second", round_=1)
    second.ask("ring_join", site, second.joining(site))
    sealed, _ = closed.info["shares"][site]
    with pytest.raises(MessageError, match="has no share of ring"):
        ring.ask("ring_reveal", site, ring.message(site, info={"share": sealed}))


@pytest.mark.parametrize("share", [None, 3, "", "zz", "00", "00" * 31, "00" * 33])
def test_what_is_no_share_is_refused_and_binds_the_site_to_nothing(
    tmp_path: Path, share: Any
) -> None:
    liar = Liar(tmp_path)
    liar.ring([*SITES])
    [(ring, _)] = liar._rings
    site = ring.order[1]
    with pytest.raises(MessageError, match="share"):
        ring.ask("ring_reveal", site, ring.message(site, info={"share": share}))
    liar.ring(sorted(FEWER))
    assert len(liar._rings) == 2


def test_a_share_on_its_way_says_nothing_to_who_passes_it_on(tmp_path: Path) -> None:
    """Only its site can read it: else the coordinator would need no site."""
    liar = Liar(tmp_path)
    liar.ring([*SITES])
    [(ring, closed)] = liar._rings
    for sealed, digest in closed.info["shares"].values():
        assert digest not in sealed
        member: RingMember = ring.hosts[ring.order[0]].operations["ring_pass"].__self__  # type: ignore[attr-defined]
        assert member.state is None
    key = ring.key(closed)
    sealed_shares = [bytes.fromhex(sealed) for sealed, _ in closed.info["shares"].values()]
    assert key not in sealed_shares


# ---------------------------------------------------------------------- against sites


def pinned(folder: Path, sites: int = 5) -> Hosts:
    names = "ABCDE"[:sites]
    folder.mkdir(exist_ok=True)
    pins = {name: make(folder / f"{name}{SUFFIX}") for name in names}
    aggregator = CyclicCKKS(pins=pins, identities=str(folder))
    return join_hosts(aggregator, make_hosts(aggregator, random_updates(sites, 40)))


def summed(hosts: Hosts, sites: str) -> Tensor:
    """A ring over some sites, as a coordinator runs it that claims the others lost."""
    aggregator: Any = hosts.aggregator
    order = ring_order(sites, 1)
    terms = {"largest": 1, "exponents": None, "share": 1.0}
    plan = aggregator.settings.plan(len(order), hosts.hosts["A"].layout, None)
    return Ring(hosts.channel, 1, order, plan, terms).run().values


def test_a_second_sum_over_fewer_sites_is_refused_by_all(tmp_path: Path) -> None:
    """The difference of the two would be the update of the site that is said to be lost."""
    hosts = pinned(tmp_path)
    summed(hosts, "ABCDE")
    for sites in ("ABCD", "BCDE", "ABC"):
        with pytest.raises(RingBroken) as broken:
            summed(hosts, sites)
        assert broken.value.due == dict.fromkeys(sites, frozenset("ABCDE"))


def test_without_the_history_the_second_sum_gives_the_update_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the rule is for."""
    for rule in ("check", "open"):
        monkeypatch.setattr(RingHistory, rule, lambda *_: None)
    hosts = pinned(tmp_path)
    difference = summed(hosts, "ABCDE") - summed(hosts, "ABCD")
    torch.testing.assert_close(difference, hosts.hosts["E"].vector, rtol=0, atol=2**-20)


def test_the_same_sum_again_is_the_same(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    assert torch.equal(summed(hosts, "ABCDE"), summed(hosts, "ABCDE"))


def lose(hosts: Hosts, op: str, sites: str) -> None:
    """Let the answers of some sites to one operation get lost."""
    hosts.transport.on_answer = lambda asked, site, answer: (
        None if asked == op and site in sites else answer
    )


def mean_of(hosts: Hosts, sites: str) -> Tensor:
    updates = torch.stack([hosts.hosts[site].vector for site in sites])
    return updates.double().mean(0).float()


def test_an_initiator_that_is_silent_while_it_opens_costs_its_update_alone(tmp_path: Path) -> None:
    """Nobody has given a share of the key yet, so its ring stays closed."""
    hosts = pinned(tmp_path)
    initiator = ring_order("ABCDE", 1)[0]
    lose(hosts, "ring_close", initiator)
    outcome = hosts.mean()
    rest = "ABCDE".replace(initiator, "")
    assert [*outcome.lost] == [initiator]
    torch.testing.assert_close(outcome.mean, mean_of(hosts, rest), rtol=0, atol=2**-24)


@pytest.mark.parametrize("sites", [3, 4, 5])
def test_a_site_that_is_silent_when_asked_for_its_share_is_not_missed(
    tmp_path: Path, sites: int
) -> None:
    hosts = pinned(tmp_path, sites)
    names = "ABCDE"[:sites]
    lose(hosts, "ring_reveal", ring_order(names, 1)[1])
    outcome = hosts.mean()
    assert not outcome.lost
    torch.testing.assert_close(outcome.mean, mean_of(hosts, names), rtol=0, atol=2**-24)


def test_two_sites_lost_at_the_last_step_stop_the_run_until_they_are_back(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    gone = "".join(ring_order("ABCDE", 1)[1:3])
    lose(hosts, "ring_reveal", gone)
    with pytest.raises(TooFewSitesError, match=r"B: takes part in a ring of round 1 over .* alone"):
        hosts.mean()
    hosts.transport.on_answer = None
    torch.testing.assert_close(hosts.mean().mean, mean_of(hosts, "ABCDE"), rtol=0, atol=2**-24)


def test_a_resumed_round_goes_on_with_the_ring_that_was_opened(tmp_path: Path) -> None:
    """The coordinator was killed after the sum over fewer sites, and all sites are back."""
    hosts = pinned(tmp_path)
    lose(hosts, "ring_pass", "E")
    before = hosts.mean()
    hosts.transport.on_answer = None
    again = hosts.mean()
    assert [*again.lost] == ["E"]
    assert "goes on over ['A', 'B', 'C', 'D'], who were in a ring" in again.lost["E"].detail
    assert torch.equal(again.mean, before.mean)


def test_false_shares_are_known_and_name_their_site(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    _, liar, other, *_ = ring_order("ABCDE", 1)

    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        if op != "ring_reveal" or site not in liars:
            return answer
        return altered(answer, info=Message.decode(answer).info | {"share": "00" * 32})

    hosts.transport.on_answer, liars = on_answer, liar
    assert not hosts.mean().lost
    liars = liar + other
    with pytest.raises(TooFewSitesError, match=f"{liar}: gave a false share"):
        hosts.mean()


def test_a_false_digest_of_the_mean_is_known_and_names_the_initiator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "lightning_fl.aggregation.ring.member.vector_digest"
    monkeypatch.setattr(module, lambda vector: "0" * 64)
    hosts = pinned(tmp_path)
    initiator = ring_order("ABCDE", 1)[0]
    with pytest.raises(TooFewSitesError, match=f"{initiator}: signed another mean, 0000"):
        hosts.mean()


@pytest.mark.parametrize("said", [None, 3, {}, [3], [], ["C"], [*"XYZ"], [*"ABC"], [*"ABCDE"]])
def test_one_site_that_lies_of_another_ring_leaves_out_itself(tmp_path: Path, said: Any) -> None:
    hosts = pinned(tmp_path)

    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        if (op, site) != ("ring_join", "C"):
            return answer
        return altered(answer, info={"due": said})

    hosts.transport.on_answer = on_answer
    outcome = hosts.mean()
    assert [*outcome.lost] == ["C"]
    torch.testing.assert_close(outcome.mean, mean_of(hosts, "ABDE"), rtol=0, atol=2**-24)


def test_a_round_goes_on_after_a_kill_between_two_joins(tmp_path: Path) -> None:
    """Some sites have heard of a ring of fewer, and the site that was lost is back or is not."""
    for back in (True, False):
        hosts = pinned(tmp_path / str(back))
        [*others, lost] = ring_order("ABCDE", 1)
        summed_until_join(hosts, "ABCDE", 5)
        summed_until_join(hosts, "".join(sorted(others)), 2)
        if not back:
            hosts.hosts.pop(lost)
        assert len(hosts.mean().lost) == back


def summed_until_join(hosts: Hosts, sites: str, joins: int) -> None:
    """Ask so many sites of a ring to join it, and stop there."""
    ring = RingByHand(hosts.hosts, ring_order(sites, 1), ring=f"{random.random()}", round_=1)
    for site in ring.order[:joins]:
        ring.ask("ring_join", site, ring.joining(site))


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
    assert "C" in hosts.mean().lost
    check_no_other_site_passed_a_block(hosts)


def test_sites_with_updates_of_other_weights_do_not_start_a_ring(tmp_path: Path) -> None:
    hosts = pinned(tmp_path)
    vars(hosts.hosts["C"])["origin"] = lambda round_: "other weights"
    assert "C" in hosts.mean().lost
    check_no_other_site_passed_a_block(hosts)


def check_no_other_site_passed_a_block(hosts: Hosts) -> None:
    """No ring with C, whose terms are others, has begun."""
    reasons = hosts.transport.refusals()
    assert any("ring membership said to be from site" in reason for reason in reasons)
    passed = {exchange.site for exchange in hosts.transport.exchanges if exchange.op == "ring_pass"}
    assert passed
    assert "C" not in passed
