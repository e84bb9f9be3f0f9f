import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fl.aggregation.ring.fixed_point import Integers
from lightning_fl.aggregation.ring.packing import from_reals, pack, to_reals, unpack
from lightning_fl.aggregation.ring.packing_parameters import RingParameters, choose
from lightning_fl.errors import ConfigError, OutOfRangeError


def sets(bits: int, sites: int) -> RingParameters | None:
    try:
        return choose(bits, sites)
    except ConfigError:
        return None


@given(st.integers(8, 30), st.integers(2, 64), st.integers(1, 20_000), st.integers(0, 2**32))
def test_sums_of_masked_words_unpack_to_sums_of_integers(
    bits: int, sites: int, count: int, seed: int
) -> None:
    parameters = sets(bits, sites)
    if parameters is None:
        return
    generator = np.random.default_rng(seed)
    extremes = np.array([-parameters.limit, 0, parameters.limit])
    total: float | np.ndarray = 0.0
    mask_sum: Integers | int = 0
    truth = np.zeros(count, dtype=np.int64)
    for _ in range(sites):
        integers = generator.integers(-parameters.limit, parameters.limit + 1, count)
        integers = np.where(generator.random(count) < 0.3, generator.choice(extremes), integers)
        words = pack(integers, parameters)
        assert words.min() >= 0
        assert words.max() < 2**parameters.word_bits
        mask = generator.integers(0, 2**parameters.word_bits, len(words))
        total = total + to_reals(words, mask, parameters)
        mask_sum, truth = mask_sum + mask, truth + integers
    assert isinstance(total, np.ndarray)
    sums = unpack(from_reals(total, mask_sum, parameters), parameters, count)
    np.testing.assert_array_equal(sums, truth)


def test_the_largest_and_the_smallest_sum_stay_in_their_lanes() -> None:
    parameters = choose(16, 8)
    for sign in (-1, 1):
        integers = np.array([sign, -sign] * 100) * parameters.limit
        reals = to_reals(pack(integers, parameters), 0, parameters)
        sums = unpack(from_reals(8 * reals, 0, parameters), parameters, 200)
        np.testing.assert_array_equal(sums, 8 * integers)


@pytest.mark.parametrize("wrong", [1e14, np.nan, np.inf, 2.0**60])
def test_decrypted_garbage_is_out_of_range(wrong: float) -> None:
    parameters = choose(24, 3)
    reals = np.zeros(parameters.degree)
    reals[7] = wrong
    with pytest.raises(OutOfRangeError, match="did not encrypt for this ring"):
        from_reals(reals, 0, parameters)


def test_numbers_that_are_not_whole_are_refused() -> None:
    parameters = choose(16, 8)
    reals = np.random.default_rng(0).uniform(-100, 100, parameters.degree)
    with pytest.raises(OutOfRangeError, match="are no whole numbers"):
        from_reals(reals, 0, parameters)


def test_a_sum_no_sites_can_make_is_refused() -> None:
    parameters = choose(16, 3)  # lanes of 18 bits hold more than three integers can add up to
    word = np.full(parameters.degree, 2**parameters.lane_bits - 1)
    with pytest.raises(OutOfRangeError, match="a sum over 3 sites can be, 196602 at most"):
        unpack(word, parameters, 10)
