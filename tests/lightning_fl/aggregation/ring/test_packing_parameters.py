import math
from dataclasses import replace

import numpy as np
import pytest
from tenseal import sealapi

from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.fixed_point import Floats
from lightning_fl.aggregation.ring.packing_parameters import (
    FAILURE,
    MAX_BITS,
    MAX_VALUES,
    MIN_BITS,
    SEAL_128,
    RingParameters,
    choose,
    is_compact,
    tail,
)
from lightning_fl.errors import ConfigError

SITES = (2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64)


def every_set() -> list[RingParameters]:
    """All parameters the planner can choose for these numbers of sites."""
    found = set()
    for bits in range(MIN_BITS, MAX_BITS + 1):
        for sites in SITES:
            try:
                found.add(choose(bits, sites))
            except ConfigError:
                continue
    return sorted(found, key=repr)


def required_margin(*, special: bool) -> float:
    """Standard deviations that half a unit must be away, found by bisection."""
    low, high = 0.0, 64.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = tail(middle, special=special) * MAX_VALUES <= FAILURE
        low, high = (low, middle) if enough else (middle, high)
    return high


def test_the_table_is_seals_own() -> None:
    largest, level = sealapi.CoeffModulus.MaxBitCount, sealapi.SEC_LEVEL_TYPE.TC128
    assert {degree: largest(degree, level) for degree in SEAL_128} == SEAL_128


@pytest.mark.parametrize("special", [True, False])
def test_the_margin_keeps_the_failure_probability_for_the_longest_update(special: bool) -> None:
    wrong = MAX_VALUES * tail(required_margin(special=special), special=special)
    assert FAILURE / 2 < wrong <= FAILURE * (1 + 1e-6)
    margins = [p for p in every_set() if p.special is special]
    assert all(p.margin >= required_margin(special=special) for p in margins)


@pytest.mark.parametrize("parameters", every_set(), ids=repr)
def test_sums_fit_their_lanes_their_words_and_half_the_prime(parameters: RingParameters) -> None:
    p = parameters
    assert p.sites * 2 * p.limit < 2**p.lane_bits
    assert p.lanes * p.lane_bits == p.word_bits < 52  # float64 holds it exactly
    largest = p.sites * 2 ** (p.word_bits - 1) * math.sqrt(2) * 2**p.scale_bits
    assert largest < 2**59
    assert p.margin >= (34 if p.special else 25)
    assert sum(p.primes) <= SEAL_128[p.degree]


def measured_noise(parameters: RingParameters) -> float:
    """Standard deviation of decrypted sums minus true sums, in units, over 4096 slots."""
    generator = np.random.default_rng(0)
    key = RingKey(parameters)
    context = RingContext(parameters, key.public_key)
    half = 2 ** (parameters.word_bits - 1)
    total, truth = None, np.zeros(parameters.degree)
    for _ in range(parameters.sites):
        reals = generator.integers(-half, half, parameters.degree).astype(float)
        truth += reals
        own = context.encrypt(reals)
        if total is None:
            total = own
        else:
            context.add(total, own)
    assert total is not None
    return float((key.decrypt(total) - truth).std())


NOISES = sorted({(p.sites, p.scale_bits, p.special): p for p in every_set()}.items())


@pytest.mark.parametrize("parameters", [p for _, p in NOISES], ids=repr)
def test_measured_noise_is_the_computed_one_and_far_below_half(
    parameters: RingParameters,
) -> None:
    measured = measured_noise(parameters)
    assert 0.5 / measured >= 24
    # the rest is float64's own rounding, which counts where the scale is large
    assert measured <= 1.1 * parameters.noise + 2.0**-42 * 2**parameters.word_bits


def noises(parameters: RingParameters, keys: int, ciphertexts: int) -> Floats:
    """Noise of single encryptions in standard deviations, under several keys."""
    single = replace(parameters, sites=1)
    found = []
    for _ in range(keys):
        key = RingKey(single)
        context = RingContext(single, key.public_key)
        zeros = np.zeros(ciphertexts * single.degree)
        found.append(key.decrypt(context.encrypt(zeros)) / single.noise)
    return np.concatenate(found)


@pytest.mark.parametrize(("special", "kurtosis"), [(True, 6.0), (False, 4.5)])
def test_the_noise_has_the_heavy_tail_that_the_margin_is_computed_from(
    special: bool, kurtosis: float
) -> None:
    """A Gaussian would have a kurtosis of 3, and about one value in a million beyond five."""
    deviations = noises(RingParameters(3, 24, 1, 4096, special), keys=60, ciphertexts=8)
    assert float((deviations**4).mean() / (deviations**2).mean() ** 2) == pytest.approx(
        kurtosis, abs=0.5
    )
    for limit in (3.0, 5.0):
        measured = float((np.abs(deviations) > limit).mean())
        assert measured == pytest.approx(tail(limit, special=special), rel=0.4)


@pytest.mark.parametrize(
    ("bits", "sites", "lanes", "value_bits"),
    [
        *((16, 3, 2, 16), (16, 8, 2, 16), (14, 16, 2, 14), (12, 32, 2, 12)),
        *((24, 3, 1, 35), (24, 8, 1, 35), (24, 64, 1, 28)),
    ],
)
def test_known_sets(bits: int, sites: int, lanes: int, value_bits: int) -> None:
    found = choose(bits, sites)
    assert (found.lanes, found.value_bits, found.degree) == (lanes, value_bits, 4096)


def test_the_second_prime_is_spared_where_the_noise_allows_it() -> None:
    """It makes encryption slower by two thirds."""
    assert not choose(16, 3).special
    assert not choose(24, 3).special
    assert choose(16, 8).special
    assert choose(24, 8).special  # for the range
    assert choose(24, 3).limit * 2.0**-24 > 1023


@pytest.mark.parametrize(
    ("bits", "sites", "nearest"),
    [
        (13, 32, "`bits: 12` with 32 sites"),
        (16, 16, "`bits: 14` with 16 sites"),
        (16, 16, "`bits: 24` with 16 sites"),
        (16, 16, "`bits: 16` with 8 sites"),
        (24, 128, "`bits: 21` with 128 sites"),
        (24, 128, "`bits: 24` with 64 sites"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_that_does(
    bits: int, sites: int, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"{sites} sites with `bits: {bits}`") as refusal:
        choose(bits, sites)
    assert nearest in str(refusal.value)
    named_bits, named_sites = (int(w.strip("`")) for w in nearest.split() if w.strip("`").isdigit())
    choose(named_bits, named_sites)


@pytest.mark.parametrize("bits", [7, 31, 0, -1])
def test_bits_out_of_bounds_are_named(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"from 8 to 30, but got {bits}"):
        choose(bits, 3)


def test_one_more_bit_than_the_planner_allows_would_break_the_margin() -> None:
    for parameters in every_set():
        if is_compact(parameters.value_bits) and parameters.lanes > 1:
            more = replace(parameters, lanes=parameters.lanes + 1, special=True)
            assert parameters.lanes == 5 or not more.exact
