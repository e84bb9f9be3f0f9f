import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fl.aggregation.ring.fixed_point import (
    COARSEST,
    FINEST,
    FixedPointGrid,
    exponents_for,
    from_limbs,
    to_limbs,
)
from lightning_fl.errors import NonFiniteError


def test_steps_follow_the_tensors_across_any_cut() -> None:
    grid = FixedPointGrid((-3, 0, 2), (3, 1, 4), 100)
    whole = [0.125] * 3 + [1.0] + [4.0] * 4
    for start in range(8):
        for stop in range(start + 1, 9):
            assert grid.steps(start, stop).tolist() == whole[start:stop]


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50), st.integers(-24, 20))
def test_grid_values_come_back_exactly(integers: list[int], exponent: int) -> None:
    grid = FixedPointGrid((exponent,), (len(integers),), 1000)
    values = grid.to_values(np.array(integers), 0)
    found, clipped = grid.to_integers(values, 0)
    assert (found.tolist(), clipped) == (integers, 0)


def test_halves_go_to_the_even_neighbour_and_outsiders_are_clipped() -> None:
    grid = FixedPointGrid((0,), (6,), 3)
    values = np.array([0.5, 1.5, -0.5, 3.4, 3.6, -1e30])
    found, clipped = grid.to_integers(values, 0)
    assert (found.tolist(), clipped) == ([0, 2, 0, 3, 3, -3], 2)
    assert grid.outside(values, 0).tolist() == [False, False, False, False, True, True]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_place_on_a_grid(value: float) -> None:
    grid = FixedPointGrid((0,), (6,), 3)
    with pytest.raises(NonFiniteError, match="values from 4 on are NaN or infinite"):
        grid.to_integers(np.array([1.0, value]), 4)


@given(st.floats(1e-30, 1e30), st.integers(8, 18))
def test_exponents_reach_the_range_with_the_smallest_step(reach: float, bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    [exponent] = exponents_for([reach], limit)
    assert FINEST <= exponent <= COARSEST
    if FINEST < exponent < COARSEST:
        assert 2.0 ** (exponent - 1) * limit < reach <= 2.0**exponent * limit * (1 + 1e-12)


def test_a_tensor_without_range_gets_the_finest_grid() -> None:
    assert exponents_for([0.0], 127) == (FINEST,)


@given(st.lists(st.integers(0, 2**42 - 1), min_size=1, max_size=64))
def test_counts_add_up_in_limbs(counts: list[int]) -> None:
    assert from_limbs(np.sum([to_limbs(count) for count in counts], axis=0)) == sum(counts)
    assert max(to_limbs(counts[0])) < 128  # fits the smallest lane


@pytest.mark.parametrize("count", [-1, 2**42])
def test_counts_out_of_bounds_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=str(count)):
        to_limbs(count)
