"""The distinguishing test: which of two chosen updates is behind the bytes of a view?"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.packing_parameters import RingParameters, choose
from lightning_fl.audit.views.ring_observers import LENGTH, OBSERVERS, ObservedRing
from lightning_fl.errors import ConfigError

LEAST_TRIALS = 1000
TRAINING = 500
"""Trials beside those that count, on which the attacker learns what to look for."""
Z95, Z999 = 1.959964, 3.290527
"""Two-sided normal quantiles."""
TELLING = 5.0
"""Standard deviations that none of ten thousand features reaches by chance."""


class GameResult(NamedTuple):
    """How often the attacker was right.

    Attributes:
        view: whose bytes.
        trials: that counted.
        right: of them.
    """

    view: str
    trials: int
    right: int

    @property
    def accuracy(self) -> float:
        """The share of right answers; a coin has 0.5."""
        return self.right / self.trials

    @property
    def advantage(self) -> float:
        """`2 accuracy - 1`: 0 for a coin, 1 for who is always right."""
        return 2 * self.accuracy - 1

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """Return Wilson's interval of the accuracy."""
        return wilson(self.right, self.trials, z)

    @property
    def is_a_coin(self) -> bool:
        """Whether 0.5 lies in the 95 % interval."""
        low, high = self.interval()
        return low <= 0.5 <= high

    @property
    def sees(self) -> bool:
        """Whether the accuracy is above 0.5 beyond doubt: in one audit of 2000 by chance."""
        return self.interval(Z999)[0] > 0.5

    @property
    def words(self) -> str:
        """The verdict for a reader."""
        if self.sees:
            return "Tells them apart."
        if self.is_a_coin:
            return "A coin."
        return "Beside a coin by less than chance can do; run again with another seed."

    def record(self) -> dict[str, Any]:
        """Return what audit.json says of the result."""
        observer = OBSERVERS[self.view]
        return {
            **self._asdict(),
            "title": observer.title,
            "protected": observer.protected,
            "sees": self.sees,
            "accuracy": self.accuracy,
            "advantage": self.advantage,
            "interval": self.interval(),
            "words": self.words,
        }


def wilson(right: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (1927).

    Raises:
        ConfigError: there are no trials.
    """
    if trials < 1:
        raise ConfigError(f"Expected `trials` to be at least 1, but got {trials}.")
    share, spread = right / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class Game:
    """Two updates that the attacker chose, and a ring whose public key it knows.

    The updates are as far apart as the grid allows: all values at its one end or at its other,
    with random signs. Keys, masks and encryption take their randomness from the operating system,
    so results are not the same twice.

    Args:
        seed: of the updates, and of which one is taken.
        bits: of the ring.
        sites: of the ring.
    """

    seed: int = 0
    bits: int = 24
    sites: int = 3

    @property
    def parameters(self) -> RingParameters:
        """The parameters of the ring."""
        return choose(self.bits, self.sites)

    def updates(self) -> tuple[Integers, Integers]:
        """Return the two updates, as integers of shape (LENGTH,)."""
        limit = self.parameters.limit
        signs = np.random.default_rng(self.seed).choice([-1, 1], LENGTH)
        return signs * np.int64(limit), -signs * np.int64(limit)

    def play(self, view: str, trials: int = LEAST_TRIALS) -> GameResult:
        """Let the attacker learn from some trials and count its right answers in others.

        Args:
            view: one of `OBSERVERS`.
            trials: that count.

        Raises:
            ConfigError: there are fewer than 1000 trials, or no such view.
        """
        if trials < LEAST_TRIALS:
            raise ConfigError(
                f"Expected `trials` to be at least {LEAST_TRIALS}, but got {trials}: with fewer, "
                "even a view that gives a little away looks like a coin."
            )
        if view not in OBSERVERS:
            raise ConfigError(f"Unknown view {view!r}; known are {', '.join(OBSERVERS)}.")
        ring, features = ObservedRing(self.parameters), OBSERVERS[view].features
        pair = self.updates()
        generator = np.random.default_rng([self.seed, *view.encode()])
        taken = generator.integers(0, 2, trials + TRAINING)
        seen = np.stack([features(ring, pair[choice]) for choice in taken])
        learn, count = slice(0, TRAINING), slice(TRAINING, None)
        answers = linear_answers(seen[learn], taken[learn], seen[count])
        return GameResult(view, trials, int(np.sum(answers == taken[count])))


def linear_answers(seen: Floats, taken: Integers, new: Floats, ridge: float = 1.0) -> Integers:
    """Answer which of the two it was, by ridge regression on the trials to learn from.

    Where single features give the answer away beyond chance, it uses only those. Otherwise it uses
    all, which finds what is spread thinly over many. It solves in the space of trials, of which
    there are fewer than features.

    Args:
        seen: (trials, features) to learn from.
        taken: (trials,) of 0 and 1.
        new: (others, features).
        ridge: penalty, as a share of the mean squared size of the features.

    Returns:
        (others,) of 0 and 1.
    """
    centre, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-12
    learnt, asked = (seen - centre) / spread, (new - centre) / spread
    side = 2.0 * taken - 1.0
    side -= side.mean()
    deviations = np.abs(side @ learnt) / math.sqrt(len(learnt))
    telling = deviations > TELLING
    if telling.any():
        learnt, asked = learnt[:, telling], asked[:, telling]
    products = learnt @ learnt.T
    products += ridge * np.trace(products) / len(learnt) * np.eye(len(learnt))
    weights = np.linalg.solve(products, side)
    answers: Integers = (asked @ (learnt.T @ weights) > 0).astype(np.int64)
    return answers
