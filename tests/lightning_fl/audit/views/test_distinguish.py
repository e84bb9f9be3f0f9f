import numpy as np
import pytest
from scipy.stats import binomtest

from lightning_fl.aggregation.ring.packing_parameters import choose
from lightning_fl.audit.views.distinguish import (
    TRAINING,
    Game,
    GameResult,
    linear_answers,
    wilson,
)
from lightning_fl.audit.views.ring_observers import OBSERVERS, ObservedRing
from lightning_fl.errors import ConfigError


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (465, 1000), (1000, 1000), (3, 4)])
def test_wilson_equals_scipys(right: int, trials: int) -> None:
    expected = binomtest(right, trials).proportion_ci(method="wilson")
    assert wilson(right, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="`trials` to be at least 1, but got 0"):
        wilson(0, 0)


def test_verdicts_of_results_by_hand() -> None:
    assert GameResult("v", 1000, 500).is_a_coin
    assert not GameResult("v", 1000, 535).is_a_coin  # 2.2 standard deviations
    assert not GameResult("v", 1000, 535).sees
    assert GameResult("v", 1000, 560).sees  # 3.8 standard deviations
    assert not GameResult("v", 1000, 400).sees
    assert GameResult("v", 1000, 750).advantage == 0.5


def test_the_initiator_without_masks_is_always_right() -> None:
    result = Game().play("initiator_none")
    assert result.trials == 1000
    assert result.accuracy > 0.99
    assert result.sees


PROTECTED = [name for name, observer in OBSERVERS.items() if observer.protected]


@pytest.mark.parametrize("view", PROTECTED)
def test_who_is_not_to_see_is_a_coin(view: str) -> None:
    """Randomness cannot be seeded, so the interval is one that chance misses once in 10^5.

    An attacker with an advantage of 0.3 would be outside of it.
    """
    result = Game().play(view)
    low, high = result.interval(4.42)
    assert low <= 0.5 <= high
    assert GameResult(view, 1000, 650).interval(4.42)[0] > 0.5


@pytest.mark.parametrize(("bits", "sites"), [(8, 5), (16, 3), (30, 8)])
def test_the_ring_is_of_the_runs_bits_and_sites(bits: int, sites: int) -> None:
    game = Game(bits=bits, sites=sites)
    assert game.parameters == choose(bits, sites)
    assert game.play("initiator_none").accuracy > 0.99
    ring = ObservedRing(game.parameters)
    for name, observer in OBSERVERS.items():
        assert np.isfinite(observer.features(ring, game.updates()[0])).all(), name


@pytest.mark.parametrize(("features", "shift"), [(1, 3.0), (1000, 0.3)])
def test_a_learner_finds_what_is_there_in_one_feature_or_spread_over_many(
    features: int, shift: float
) -> None:
    generator = np.random.default_rng(0)
    taken = generator.integers(0, 2, 2 * TRAINING)
    seen = generator.normal(size=(2 * TRAINING, 2000))
    seen[:, :features] += shift * taken[:, None]
    answers = linear_answers(seen[:TRAINING], taken[:TRAINING], seen[TRAINING:])
    assert np.mean(answers == taken[TRAINING:]) > 0.75


def test_too_few_trials_and_unknown_views_are_refused() -> None:
    with pytest.raises(ConfigError, match="`trials` to be at least 1000, but got 999"):
        Game().play("coordinator", 999)
    with pytest.raises(ConfigError, match="Unknown view 'nobody'; known are coordinator, initi"):
        Game().play("nobody")
