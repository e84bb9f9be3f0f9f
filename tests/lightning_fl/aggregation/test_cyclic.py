"""The ring's result is the plain fixed-point mean, bit for bit; and what happens on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_fl.aggregation import Aggregate, CyclicCKKS
from lightning_fl.aggregation.ring import ring_plan
from lightning_fl.aggregation.ring.fixed_point import exponents_for
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.member_state import MemberState
from lightning_fl.aggregation.ring.packing_parameters import choose
from lightning_fl.aggregation.ring.ring_plan import ring_order
from lightning_fl.aggregation.ring.ring_settings import Bounds
from lightning_fl.errors import ConfigError, TooFewSitesError
from lightning_fl.wire.messages import Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    Host,
    Hosts,
    altered,
    join_hosts,
    layout_of,
    make_hosts,
    name_of,
    random_updates,
)


def plain_mean(
    updates: Sequence[Tensor],
    weights: Sequence[float],
    steps: Any,
    limit: int,
    total: float | None = None,
) -> Tensor:
    """The weighted mean on a grid, as plain integers: what the ring must give."""
    integers = [
        np.clip(np.rint(u.double().numpy() * w / steps), -limit, limit).astype(int)
        for u, w in zip(updates, weights, strict=True)
    ]
    sums = torch.from_numpy((sum(integers) * steps).astype(np.float32))
    return (sums.double() / (total or sum(weights))).float()


def ring(
    aggregator: CyclicCKKS, updates: Sequence[Tensor], samples: Sequence[int] | None = None
) -> Hosts:
    return join_hosts(aggregator, make_hosts(aggregator, updates, samples=samples))


def wide(updates: Sequence[Tensor], samples: Sequence[int]) -> Tensor:
    weights = [n / max(samples) for n in samples]
    limit, total = choose(24, len(updates)).limit, sum(samples) / max(samples)
    return plain_mean(updates, weights, 2.0**-24, limit, total)


VALUES = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([0.0, -0.0, 127.99, -127.99, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 1e-30, -1e-38]),
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(3, 16), st.sampled_from(["pairwise", "initiator", "none"]))
def test_secure_equals_plain_on_the_same_grid_bit_for_bit(
    data: st.DataObject, sites: int, masking: Any
) -> None:
    length = data.draw(st.integers(1, 12))
    updates = [
        torch.tensor(data.draw(st.lists(VALUES, min_size=length, max_size=length)))
        for _ in range(sites)
    ]
    samples = data.draw(st.lists(st.integers(1, 10**6), min_size=sites, max_size=sites))
    aggregator = CyclicCKKS(masking=masking, bounds=Bounds(share=1.0))
    outcome = ring(aggregator, updates, samples).mean()
    assert torch.equal(outcome.mean, wide(updates, samples))
    assert not outcome.lost


@pytest.mark.parametrize("sites", [3, 5, 16, 32])
@pytest.mark.parametrize("kind", ["random", "zero", "one-hot", "largest", "alternating"])
def test_whole_ciphertexts_of_awkward_updates_are_exact(sites: int, kind: str) -> None:
    limit = choose(24, sites).limit * 2.0**-24
    largest = float(np.nextafter(np.float32(limit), np.float32(0)))
    length = 4097 + 13  # into a second ciphertext
    updates = {
        "random": random_updates(sites, length, largest=largest),
        "zero": [torch.zeros(length)] * sites,
        "one-hot": [largest * torch.eye(length)[97 * k] for k in range(sites)],
        "largest": [torch.full((length,), largest)] * sites,
        "alternating": [
            torch.full((length,), largest) * (-1.0) ** torch.arange(k, k + length)
            for k in range(sites)
        ],
    }[kind]
    samples = [1 + 7 * k for k in range(sites)]
    assert torch.equal(ring(CyclicCKKS(), updates, samples).mean().mean, wide(updates, samples))


def test_many_blocks_and_tensors_of_odd_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_plan, "CIPHERTEXTS_PER_BLOCK", 1)
    layout = layout_of(1, 4095, 3, 9001, 7, 12288, 1)
    updates = random_updates(4, layout.length)
    aggregator = CyclicCKKS()
    hosts = join_hosts(aggregator, make_hosts(aggregator, updates, layout=layout))
    assert torch.equal(hosts.mean().mean, wide(updates, [1, 1, 1, 1]))
    blocks = aggregator.settings.plan(4, layout, None).blocks
    assert blocks == 7
    assert len(hosts.transport.requests("ring_close")) == blocks


def test_equal_weights_ignore_the_samples() -> None:
    updates = random_updates(3, 50)
    outcome = ring(CyclicCKKS(weights="equal"), updates, [1, 100, 7]).mean()
    assert torch.equal(outcome.mean, wide(updates, [1, 1, 1]))


def test_hidden_samples_weigh_without_being_told() -> None:
    updates, samples = random_updates(3, 50), [11, 222, 3333]
    aggregator = CyclicCKKS(weights="hidden", max_samples=4096)
    hosts = ring(aggregator, updates, samples)
    outcome = hosts.mean()
    weights = [n / 4096 for n in samples]
    expected = plain_mean(updates, weights, 2.0**-24, choose(24, 3).limit, sum(samples) / 4096)
    assert torch.equal(outcome.mean, expected)
    assert outcome.facts["samples"] == sum(samples)
    spoken = b"".join(e.request + (e.answer or b"") for e in hosts.transport.exchanges)
    heads = spoken.decode("latin-1")
    for secret in ("222", "3333"):
        assert f": {secret}," not in heads
        assert f": {secret}}}" not in heads


def test_a_site_above_max_samples_says_what_to_change_but_not_its_count() -> None:
    aggregator = CyclicCKKS(weights="hidden", max_samples=10)
    hosts = ring(aggregator, random_updates(4, 5), [5, 1234, 5, 5])
    said = hosts.mean().lost["B"].detail
    assert "raise `aggregator.max_samples`" in said
    assert "1234" not in said
    with pytest.raises(ConfigError, match=r"more training samples than `aggregator.max_samples`"):
        aggregator.check_site(hosts.hosts["B"])
    aggregator.check_site(hosts.hosts["A"])


# ---------------------------------------------------------------------- a bound on updates


def test_longer_updates_are_scaled_down_and_counted() -> None:
    updates = [u * s for u, s in zip(random_updates(3, 50), (0.1, 1.0, 5.0), strict=True)]
    bound = float(updates[1].norm()) + 0.1
    outcome = ring(CyclicCKKS(bounds=Bounds(norm=bound)), updates).mean()
    scaled = [*updates[:2], updates[2] * (bound / float(updates[2].norm()))]
    expected = torch.stack(scaled).double().mean(0).float()
    torch.testing.assert_close(outcome.mean, expected, rtol=0, atol=2**-23)
    assert outcome.facts["bounded"] == 1


def test_a_mean_that_is_longer_than_the_bound_is_refused() -> None:
    """A site that ignores the bound has moved it; nobody can see which one."""
    settings = CyclicCKKS(bounds=Bounds(norm=2.0)).settings
    settings.check_norm(2.0, 3, 100)
    for norm in (2.1, float("nan"), float("inf")):
        with pytest.raises(
            MessageError, match=r"The mean has the norm .* `aggregator\.bounds\.norm`, 2"
        ):
            settings.check_norm(norm, 3, 100)


def test_a_bound_goes_with_the_wide_grid_alone() -> None:
    with pytest.raises(ConfigError, match="needs the wide grid"):
        CyclicCKKS(bits=16, bounds=Bounds(norm=1.0))
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="above 0 and at most 1, but got"):
            Bounds(share=share)
    with pytest.raises(ConfigError, match=r"`bounds\.norm` to be positive, but got 0"):
        Bounds(norm=0.0)


# ---------------------------------------------------------------------- the compact grid


def rounds(aggregator: CyclicCKKS, series: Sequence[Sequence[Tensor]]) -> list[Aggregate]:
    """One aggregation for each entry, the hosts keeping what they carry."""
    layout = layout_of(*(len(series[0][0]) // 2,) * 2)
    hosts = join_hosts(aggregator, make_hosts(aggregator, series[0], layout=layout))
    found: list[Aggregate] = []
    memory: Mapping[str, Any] = {}
    for number, updates in enumerate(series, 1):
        for host, update in zip(hosts.hosts.values(), updates, strict=True):
            host.train(number, update)
        found.append(hosts.mean(memory=memory))
        memory = found[-1].memory
    return found


@pytest.mark.parametrize(("bits", "sites"), [(16, 3), (16, 8), (14, 16), (12, 32), (8, 4), (18, 4)])
def test_compact_equals_plain_on_its_ranges_bit_for_bit(bits: int, sites: int) -> None:
    first = random_updates(sites, 3000, largest=0.1)
    second = random_updates(sites, 3000, largest=0.1, seed=1)
    before, outcome = rounds(CyclicCKKS(bits=bits), [first, second])
    limit = choose(bits, sites).limit
    exponents = exponents_for(before.memory["ranges"], limit)
    steps = np.repeat([2.0**e for e in exponents], 1500)
    # what the first round's wide grid left out is carried into the second
    carried = [(u - torch.from_numpy(np.rint(u.double().numpy() * 2**24) / 2**24)) for u in first]
    inputs = [u.double() + c.float().double() for u, c in zip(second, carried, strict=True)]
    assert torch.equal(outcome.mean, plain_mean(inputs, [1.0] * sites, steps, limit))


def test_what_is_clipped_is_counted_and_carried_over_until_nothing_is_missing() -> None:
    small, large = random_updates(3, 100, largest=0.001), random_updates(3, 100, largest=1.0)
    nothing = [torch.zeros(100)] * 3
    found = rounds(CyclicCKKS(bits=16), [small, large, *[nothing] * 12])
    assert found[1].facts["clipped"] > 200
    assert found[-1].facts["clipped"] == 0
    total = torch.stack([outcome.mean.double() for outcome in found]).sum(0)
    wanted = torch.stack([(s + b).double() for s, b in zip(small, large, strict=True)]).mean(0)
    assert float((total - wanted).abs().max()) < 1e-3 * float(found[0].mean.abs().max())


def test_ranges_follow_the_last_mean_and_fall_by_half_at_most() -> None:
    updates = random_updates(3, 100, largest=0.1)
    nothing = [torch.zeros(100)] * 3
    first, second, third = rounds(CyclicCKKS(bits=16), [updates, nothing, nothing])
    halves = [float(half.abs().max()) for half in torch.split(first.mean, 50)]
    usual = 16 * float(first.mean.abs().median())
    assert first.memory["ranges"] == pytest.approx([max(4 * value, usual) for value in halves])
    for before, after in ((first, second), (second, third)):
        expected = [value / 2 for value in before.memory["ranges"]]
        assert after.memory["ranges"] == pytest.approx(expected)


def test_a_value_outside_the_wide_grid_is_an_error_that_names_its_tensor() -> None:
    layout = layout_of(10, 5)
    updates = [torch.zeros(15) for _ in range(4)]
    updates[2][12] = -1e9
    aggregator = CyclicCKKS()
    outcome = join_hosts(aggregator, make_hosts(aggregator, updates, layout=layout)).mean()
    assert (
        "update of 'w1' has a value outside the fixed-point grid, which ends at 512"
        in outcome.lost["C"].detail
    )
    assert "batch_norm: local" in outcome.lost["C"].detail
    assert "1e+09" not in outcome.lost["C"].detail


# ---------------------------------------------------------------------- who and how many


def test_initiator_and_neighbours_rotate() -> None:
    names = ["A", "B", "C", "D", "E"]
    orders = [ring_order(names, round_) for round_ in range(20)]
    assert [sum(order[0] == name for order in orders) for name in names] == [4] * 5
    assert {frozenset(order) for order in orders} == {frozenset(names)}
    after_a = {order[(order.index("A") + 1) % 5] for order in orders}
    assert after_a == set("BCDE")
    assert ring_order(list(reversed(names)), 3) == orders[3]


def test_every_round_and_every_ring_has_another_key() -> None:
    hosts = ring(CyclicCKKS(), random_updates(3, 5))
    hosts.mean()
    for host in hosts.hosts.values():
        host.train(2, host.vector)
    hosts.mean()
    keys = hosts.transport.answers("ring_open")
    assert len(keys) == 2
    assert len({row.ring for row in hosts.transcript}) == 2
    assert keys[0][-10_000:] != keys[1][-10_000:]


def test_two_sites_are_refused_with_the_reason_unless_allowed() -> None:
    layout = layout_of(5)
    with pytest.raises(ConfigError, match="sum gives each of them the other's update"):
        CyclicCKKS().check(2, "AB", layout)
    CyclicCKKS(allow_two_sites=True).check(2, "AB", layout)
    updates = random_updates(2, 5)
    with pytest.raises(TooFewSitesError, match=r"2 sites left .* at least 3"):
        ring(CyclicCKKS(), updates).mean()
    outcome = ring(CyclicCKKS(allow_two_sites=True), updates).mean()
    assert torch.equal(outcome.mean, wide(updates, [1, 1]))


def test_one_site_is_never_a_ring() -> None:
    with pytest.raises(ConfigError, match=r"there is 1\. For pooled training take"):
        CyclicCKKS(allow_two_sites=True).check(1, "A", layout_of(5))


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"masking": "magic"}, "pairwise, initiator or none, but got 'magic'"),
        ({"weights": "votes"}, "but got 'votes'"),
        ({"bits": 40}, "from 8 to 30, but got 40"),
        ({"max_samples": 0}, "to be positive, but got 0"),
    ],
)
def test_bad_settings_are_named(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        CyclicCKKS(**setting)


def test_a_network_too_long_for_the_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match="sums are exact up to 1073741824"):
        CyclicCKKS().check(3, "ABC", layout_of(2**30 + 1))


def test_bits_that_do_not_fit_the_sites_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="`bits: 12` with 32 sites"):
        CyclicCKKS(bits=14).check(32, [f"S{i}" for i in range(32)], layout_of(5))


def test_hidden_counts_need_every_site_in_every_round() -> None:
    with pytest.raises(ConfigError, match="Leave `sites_per_round` out"):
        CyclicCKKS(weights="hidden").check(3, "ABCD", layout_of(5))
    CyclicCKKS(weights="hidden").check(4, "ABCD", layout_of(5))


def test_pins_must_name_every_site() -> None:
    with pytest.raises(ConfigError, match=r"\['C'\] have no pin"):
        CyclicCKKS(pins={"A": "x", "B": "y"}).check(3, "ABC", layout_of(5))


def test_pins_of_a_site_that_is_not_there_are_refused() -> None:
    pins = dict.fromkeys("ABCX", "x")
    with pytest.raises(ConfigError, match=r"names \['X'\], but the sites that train are \['A', "):
        CyclicCKKS(pins=pins).check(3, "ABC", layout_of(5))


# ---------------------------------------------------------------------- losing sites


def failing(hosts: Hosts, number: int, way: str) -> list[str]:
    """Let the exchange of this number fail; gives a list that will name the site."""
    count = 0
    gone: list[str] = []

    def on_request(op: str, site: str, request: bytes) -> Sequence[bytes]:
        nonlocal count
        count += 1
        if count == number + 1:
            gone.append(site)
        return [] if way == "killed" and site in gone else [request]

    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        return answer[:-1] if way == "damaged" and count == number + 1 else answer

    hosts.transport.on_request = on_request
    hosts.transport.on_answer = on_answer
    return gone


def exchanges_of_a_whole_ring() -> int:
    hosts = ring(CyclicCKKS(), random_updates(4, 12_000), [1, 2, 3, 4])
    hosts.mean()
    return len(hosts.transport.exchanges)


@pytest.mark.parametrize("way", ["killed", "damaged"])
def test_a_site_lost_at_any_point_is_left_out_and_nothing_was_opened(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(ring_plan, "CIPHERTEXTS_PER_BLOCK", 1)
    updates, samples = random_updates(4, 12_000), [1, 2, 3, 4]
    points = exchanges_of_a_whole_ring()
    blocks = CyclicCKKS().settings.plan(4, layout_of(12_000), None).blocks
    assert points > 4 + 4 + 4 * blocks + blocks + 3
    assert blocks > 2
    for number in range(points):
        hosts = ring(CyclicCKKS(), updates, samples)
        gone = failing(hosts, number, way)
        outcome = hosts.mean()
        if number >= points - 3:  # one of three shares of the key is missing: two suffice
            assert not outcome.lost
            assert torch.equal(outcome.mean, wide(updates, samples))
            continue
        assert [*outcome.lost] == gone
        left = [k for k in range(4) if name_of(k) not in gone]
        expected = wide([updates[k] for k in left], [samples[k] for k in left])
        assert torch.equal(outcome.mean, expected)
        assert outcome.facts["rings"] == 2
        keys = hosts.transport.answers("ring_open")
        assert len({key[-10_000:] for key in keys}) == len(keys)
        asked = hosts.transport.requests("ring_reveal")
        assert len(asked) == 2  # for the second ring; the first gave its sums to nobody
        for name, host in hosts.hosts.items():
            if way == "damaged" or name not in gone:
                assert state(host) is None


def state(host: Host) -> MemberState | None:
    member: RingMember = host.operations["ring_pass"].__self__  # type: ignore[attr-defined]
    return member.state


def test_losses_go_on_until_too_few_are_left() -> None:
    hosts = ring(CyclicCKKS(), random_updates(4, 10))
    hosts.transport.on_request = lambda op, site, request: (
        [] if op == "ring_pass" and site in "BC" else [request]
    )
    with pytest.raises(TooFewSitesError, match=r"2 sites left .* at least 3 .*B: .*C: "):
        hosts.mean()


def test_min_sites_above_three_is_kept() -> None:
    hosts = ring(CyclicCKKS(), random_updates(5, 10))
    hosts.transport.on_request = lambda op, site, request: [] if site == "B" else [request]
    with pytest.raises(TooFewSitesError, match=r"4 sites left .* at least 5"):
        hosts.mean(min_sites=5)
    assert not hosts.transport.requests("ring_close")


def test_two_sites_lost_at_once_are_both_left_out() -> None:
    updates = random_updates(6, 10)
    hosts = ring(CyclicCKKS(), updates)
    hosts.transport.on_request = lambda op, site, request: (
        [] if op == "ring_start" and site in "CE" else [request]
    )
    outcome = hosts.mean()
    starters = {"C", "E"} & set(outcome.lost)
    left = [u for k, u in enumerate(updates) if name_of(k) not in outcome.lost]
    assert starters
    assert torch.equal(outcome.mean, wide(left, [1] * len(left)))


def test_sites_that_were_told_different_things_give_no_sum() -> None:
    """A coordinator that gives one site another weight would otherwise learn from two sums."""
    hosts = ring(CyclicCKKS(), random_updates(4, 10), [1, 2, 3, 4])

    def lie(op: str, site: str, request: bytes) -> Sequence[bytes]:
        if op == "ring_join" and site == "C":
            told = Message.decode(request).info
            return [altered(request, info=told | {"largest": 5})]
        return [request]

    hosts.transport.on_request = lie
    outcome = hosts.mean()
    assert [*outcome.lost] == ["C"]
    assert "is not as site" in outcome.lost["C"].detail
    assert len(hosts.transport.requests("ring_reveal")) == 2
