"""Site-level privacy through both aggregators, with sites that hold an update and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_fl.aggregation import Aggregate, Aggregator, CyclicCKKS, Plain, Updates
from lightning_fl.errors import ConfigError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.wire.messages import Message
from tests.lightning_fl.aggregation.hosts import (
    Hosts,
    join_hosts,
    layout_of,
    make_hosts,
    random_updates,
)

NOISE = SiteNoise(clip=0.5, noise_multiplier=2.0, delta=1e-5, colluding=0, most=4)
NO_NOISE = replace(NOISE, clip=100.0, noise_multiplier=0.0)
BOTH = [Plain, CyclicCKKS]


def federation(
    aggregator: Aggregator, updates: Sequence[torch.Tensor], noise: SiteNoise | None, **more: Any
) -> Hosts:
    aggregator = aggregator.protected(noise, layout_of(len(updates[0])))
    return join_hosts(aggregator, make_hosts(aggregator, updates, **more))


def mean_and_begun(hosts: Hosts) -> tuple[Aggregate, list[tuple[list[str], int]]]:
    begun: list[tuple[list[str], int]] = []
    samples = {name: host.samples() for name, host in hosts.hosts.items()}
    layout = next(iter(hosts.hosts.values())).layout
    updates = Updates(
        1, samples, layout, 2, before_sum=lambda sites, least: begun.append((list(sites), least))
    )
    return hosts.aggregator.mean(hosts.channel, updates), begun


@pytest.mark.parametrize("kind", BOTH)
def test_zero_noise_and_a_wide_clip_equal_no_privacy_bit_for_bit(kind: type[Aggregator]) -> None:
    updates, samples = random_updates(3, 500), [5, 2, 3]
    plain = federation(kind(), updates, None, samples=samples).mean().mean
    private = federation(kind(), updates, NO_NOISE, samples=samples).mean().mean
    assert torch.equal(plain, private)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("samples", [[1, 1, 1, 1], [1, 8, 3, 2]])
def test_the_sum_carries_the_noise_of_the_multiplier(
    kind: type[Aggregator], samples: list[int]
) -> None:
    zeros = [torch.zeros(30_000)] * 4
    outcome, begun = mean_and_begun(federation(kind(), zeros, NOISE, samples=samples))
    total = outcome.mean.double() * sum(samples) / max(samples)
    assert float(total.std()) == pytest.approx(2.0 * 0.5, rel=0.025)  # six standard errors
    assert abs(float(total.mean())) < 0.035
    assert begun == [(["A", "B", "C", "D"], 4 if kind is CyclicCKKS else 2)]


@pytest.mark.parametrize("kind", BOTH)
def test_no_site_moves_the_sum_further_than_the_clip(kind: type[Aggregator]) -> None:
    quiet = replace(NOISE, noise_multiplier=0.0)
    updates = random_updates(3, 200, largest=50.0)
    without = [torch.zeros(200), *updates[1:]]
    sums = [3 * federation(kind(), u, quiet).mean().mean.double() for u in (updates, without)]
    assert float((sums[0] - sums[1]).norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", BOTH)
def test_every_sum_has_noise_of_its_own_and_the_same_sum_the_same(
    kind: type[Aggregator],
) -> None:
    hosts = federation(kind(), [torch.zeros(50)] * 3, NOISE)
    first, again = hosts.mean().mean, hosts.mean().mean
    assert torch.equal(first, again)
    second = federation(kind(), [torch.zeros(50)] * 3, NOISE).mean().mean
    assert not torch.isclose(first, second).any()


def test_a_ring_that_breaks_counts_and_the_next_one_has_all_its_noise() -> None:
    hosts = federation(CyclicCKKS(), [torch.zeros(30_000)] * 4, NOISE)
    lose = lambda op, site, request: [] if (op, site) == ("ring_start", "C") else [request]  # noqa: E731
    hosts.transport.on_request = lose
    outcome, begun = mean_and_begun(hosts)
    assert set(outcome.lost) == {"C"}
    assert begun == [(["A", "B", "C", "D"], 4), (["A", "B", "D"], 3)]
    assert float((3 * outcome.mean).std()) == pytest.approx(1.0, rel=0.025)


def test_a_site_lost_to_plain_takes_its_noise_along() -> None:
    hosts = federation(Plain(), [torch.zeros(30_000)] * 4, NOISE)
    hosts.transport.on_request = lambda op, site, request: [] if site == "C" else [request]
    outcome, _ = mean_and_begun(hosts)
    left = NOISE.left(present=3, asked=4)
    assert float((3 * outcome.mean).std()) == pytest.approx(0.5 * left, rel=0.025)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "Expected a weight and a number of sites, but got None, None"),
        ({"weight": 1.5, "sites": 3}, r"Expected a relative weight in \(0, 1\], but got 1.5"),
        ({"weight": 1.0, "sites": 1000}, "A sum of 1000 sites cannot be private here"),
    ],
)
def test_a_site_gives_plain_nothing_without_a_reasonable_account_of_the_sum(
    told: dict[str, Any], message: str
) -> None:
    hosts = federation(Plain(), [torch.zeros(5)] * 3, NOISE)
    payload = Message(run="run", round=1, sender="coordinator", info=told).encode()
    with pytest.raises(ValueError, match=message):
        hosts.hosts["A"].handle("update", payload)


@pytest.mark.parametrize(
    ("aggregator", "noise", "length", "message"),
    [
        (CyclicCKKS(weights="hidden"), NOISE, 5, "`weights: hidden` do not go together"),
        (CyclicCKKS(bits=16), NOISE, 5, "needs the wide grid, but `aggregator.bits` is 16"),
        (CyclicCKKS(), replace(NOISE, clip=1e-3), 10**6, "rounding 1000000 values to 24 bits"),
        (CyclicCKKS(), replace(NOISE, clip=1e3), 5, "the grid for 2 sites ends at"),
    ],
)
def test_rings_that_would_give_more_away_are_refused(
    aggregator: Aggregator, noise: SiteNoise, length: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        aggregator.protected(noise, layout_of(length))
