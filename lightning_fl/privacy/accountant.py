"""Turn noise into epsilon and back, by Renyi differential privacy as opacus computes it."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from lightning_fl.errors import ConfigError


class GaussianStep(NamedTuple):
    """One release of a sum of vectors of norm 1 at most with Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise.
        sample_rate: probability with which each vector is in the sum, in (0, 1]; below 1 nobody
            may know which ones are, and each must be drawn by itself (Poisson sampling).
    """

    noise_multiplier: float
    sample_rate: float = 1.0


def epsilon(steps: Iterable[GaussianStep], delta: float) -> float:
    """Return the epsilon of all steps together, for a vector that becomes 0.

    It is 0.0 without a step, and infinite where a step has no noise.

    Raises:
        ConfigError: a sample rate is not in (0, 1], or delta not in (0, 1).
    """
    counts = Counter(GaussianStep(*step) for step in steps)
    for step in counts:
        check_sample_rate(step.sample_rate)
    if not 0 < delta < 1:
        raise ConfigError(f"Expected `privacy.delta` to lie between 0 and 1, but got {delta}.")
    if any(step.noise_multiplier <= 0 for step in counts):
        return math.inf
    return _composed(tuple(sorted(counts.items())), delta)


@lru_cache(maxsize=1024)
def _composed(counts: tuple[tuple[GaussianStep, int], ...], delta: float) -> float:
    # opacus takes seconds to import, and most runs have no differential privacy
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(z, rate, count) for (z, rate), count in counts]
    with warnings.catch_warnings():  # the best order is the largest: the bound holds, if loosely
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=64)
def noise_for(target_epsilon: float, delta: float, steps: int, sample_rate: float = 1.0) -> float:
    """Return the least noise multiplier, to 0.01 of epsilon, that keeps all steps at a target.

    Raises:
        ConfigError: no noise is enough, or the sample rate is not in (0, 1].
    """
    check_sample_rate(sample_rate)
    from opacus.accountants.utils import MAX_SIGMA, get_noise_multiplier

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            multiplier: float = get_noise_multiplier(
                target_epsilon=target_epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="rdp",
                epsilon_tolerance=min(0.01, target_epsilon / 100),
            )
    except ValueError as error:
        raise ConfigError(
            f"`privacy.target_epsilon` {target_epsilon} cannot be met in {steps} steps at delta "
            f"{delta}: not even a noise multiplier of {MAX_SIGMA:.0f} is enough. Raise the target "
            "or delta, or train fewer rounds."
        ) from error
    return multiplier


def check_sample_rate(rate: float) -> None:
    """Refuse a rate at which nothing, or more than everything, is drawn."""
    if not 0 < rate <= 1:
        raise ConfigError(
            f"Expected a sampling rate above 0 and at most 1, but got {rate}. Let at least one "
            "site, or one sample, take part in each step."
        )
