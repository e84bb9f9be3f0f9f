import numpy as np
import pytest
import torch

from lightning_fl.audit.views.correlation import (
    correlation,
    is_beyond_chance,
    limit_of_chance,
    root_mean_square,
)

LENGTH = 5000


def draws(trials: int, seed: int = 0) -> list[float]:
    """Correlations of guesses that know nothing."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(LENGTH, generator=generator) ** 3  # as few large values as updates have
    guesses = torch.randn((trials, LENGTH), generator=generator)
    return [correlation(guess, truth) for guess in guesses]


def test_it_is_numpys_correlation() -> None:
    first, second = torch.randn(9), torch.randn(9)
    expected = np.corrcoef(first.numpy(), second.numpy())[0, 1]
    assert correlation(first, second) == pytest.approx(expected, abs=1e-6)


def test_a_constant_guess_is_correlated_with_nothing() -> None:
    assert correlation(torch.ones(9), torch.randn(9)) == 0


def test_one_guess_is_beyond_chance_from_four_deviations() -> None:
    assert limit_of_chance(1, LENGTH) == pytest.approx(4 / LENGTH**0.5, rel=1e-4)
    assert is_beyond_chance([4.01 / LENGTH**0.5], LENGTH)
    assert not is_beyond_chance([-3.99 / LENGTH**0.5], LENGTH)


def test_several_guesses_are_beyond_chance_from_their_limit() -> None:
    limit = limit_of_chance(10, LENGTH)
    assert limit < 2 / LENGTH**0.5
    assert not is_beyond_chance([0.99 * limit, -0.99 * limit] * 5, LENGTH)
    assert is_beyond_chance([1.01 * limit, -1.01 * limit] * 5, LENGTH)


def test_guesses_that_know_nothing_are_not_beyond_chance() -> None:
    found = draws(400)
    tens = np.reshape(found, (40, 10)).tolist()
    assert not any(is_beyond_chance(ten, LENGTH) for ten in tens)
    assert root_mean_square(found) == pytest.approx(LENGTH**-0.5, rel=0.1)
