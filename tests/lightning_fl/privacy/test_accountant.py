import math
from statistics import NormalDist

import numpy as np
import pytest
from opacus.accountants import RDPAccountant

from lightning_fl.errors import ConfigError
from lightning_fl.privacy.accountant import GaussianStep, epsilon, noise_for


def test_epsilon_is_opacus_own_number_whatever_the_order_of_steps() -> None:
    steps = [GaussianStep(1.0, 0.5), GaussianStep(2.0, 1.0), GaussianStep(1.0, 0.5)]
    accountant = RDPAccountant()
    for step in (steps[0], steps[2], steps[1]):
        accountant.step(noise_multiplier=step.noise_multiplier, sample_rate=step.sample_rate)
    assert epsilon(steps, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-12)


def test_epsilon_is_between_the_true_number_and_the_textbook_bound() -> None:
    rounds, noise, delta = 10, 3.0, 1e-5
    orders = np.linspace(1.01, 100, 10000)
    renyi = rounds * orders / (2 * noise**2)  # Mironov 2017, of T Gaussian releases
    textbook = float((renyi + np.log(1 / delta) / (orders - 1)).min())

    def delta_of(eps: float) -> float:  # Balle and Wang 2018, of the Gaussian of T releases in one
        mu = math.sqrt(rounds) / noise
        first, second = NormalDist().cdf(mu / 2 - eps / mu), NormalDist().cdf(-mu / 2 - eps / mu)
        return first - math.exp(eps) * second

    found = epsilon([GaussianStep(noise)] * rounds, delta)
    assert found < textbook
    assert delta_of(found) < delta < delta_of(0.85 * found)


def test_no_step_costs_nothing_and_a_step_without_noise_everything() -> None:
    assert epsilon([], 1e-5) == 0.0
    assert epsilon([GaussianStep(1.0), GaussianStep(0.0)], 1e-5) == math.inf


@pytest.mark.parametrize(("target", "rate"), [(1.0, 1.0), (8.0, 0.1)])
def test_noise_for_a_target_meets_it_closely(target: float, rate: float) -> None:
    noise = noise_for(target, 1e-5, 20, rate)
    assert 0.98 * target < epsilon([GaussianStep(noise, rate)] * 20, 1e-5) <= target


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, math.nan])
def test_a_sampling_rate_outside_its_range_is_refused(rate: float) -> None:
    message = "Expected a sampling rate above 0 and at most 1"
    with pytest.raises(ConfigError, match=message):
        epsilon([GaussianStep(1.0, rate)], 1e-5)
    with pytest.raises(ConfigError, match=message):
        noise_for(1.0, 1e-5, 10, rate)


def test_an_epsilon_that_no_noise_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target_epsilon` 1e-07 cannot be met in 100 steps"):
        noise_for(1e-7, 1e-5, 100)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta` to lie between 0 and 1"):
        epsilon([GaussianStep(1.0)], delta)
