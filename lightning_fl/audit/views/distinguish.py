"""The distinguishing test: which of two chosen updates is behind the bytes of a view?"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_fl.aggregation.ring.ckks import RingKey
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.masks import MaskKey, site_mask
from lightning_fl.aggregation.ring.packing import pack, to_reals
from lightning_fl.aggregation.ring.packing_parameters import RingParameters, choose
from lightning_fl.audit.views.ring_views import data_modulus
from lightning_fl.errors import ConfigError

LEAST_TRIALS = 1000
TRAINING = 500
"""Trials beside those that count, on which the attacker learns what to look for."""
LENGTH = 64
"""Values of the two updates; a real one only has more of the same."""
Z95, Z999 = 1.959964, 3.290527
"""Two-sided normal quantiles."""
TELLING = 5.0
"""Standard deviations that none of ten thousand features reaches by chance."""


class Outcome(NamedTuple):
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
        """Wilson's interval of the accuracy."""
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


def wilson(right: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (1927).

    Raises:
        ConfigError: there are no trials.
    """
    if trials < 1:
        raise ConfigError(f"Expected `trials` to be at least 1, but got {trials}.")
    share, spread = right / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(centre - half, 0.0), min(centre + half, 1.0)


class Observer(NamedTuple):
    """A party of the ring, for the report.

    Attributes:
        title: who, and what it sees.
        protected: whether it is not to tell the updates apart.
    """

    title: str
    protected: bool


OBSERVERS = {
    "coordinator": Observer("Coordinator: a site's ciphertext", True),
    "initiators_own": Observer("Coordinator: the initiator's own ciphertext", True),
    "neighbour": Observer("Next site: the ciphertext, by a key of its own", True),
    "neighbours": Observer("Both neighbours: the difference, by a key of their own", True),
    "initiator_pairwise": Observer("Initiator, pairwise masks: what its key opens", True),
    "initiator_none": Observer("Initiator, no masks: what its key opens", False),
}

Observe = Callable[[Integers], Floats]
"""From an update's integers to the features of what a party sees of it."""


@dataclass(frozen=True)
class Game:
    """Two updates that the attacker chose, and a ring whose public key it knows.

    The updates are as far apart as the grid allows: all values at its one end or at its other,
    with random signs. Keys, masks and encryption take their randomness from the operating system,
    so outcomes are not the same twice.

    Args:
        seed: of the updates, and of which one is taken.
        bits: of the ring.
        sites: of the ring.
    """

    seed: int = 0
    bits: int = 24
    sites: int = 3

    def play(self, view: str, trials: int = LEAST_TRIALS) -> Outcome:
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
        observe = self.observers()[view]
        generator = np.random.default_rng([self.seed, *view.encode()])
        pair = self.updates()
        taken = generator.integers(0, 2, trials + TRAINING)
        seen = np.stack([observe(pair[one]) for one in taken])
        learn, count = slice(0, TRAINING), slice(TRAINING, None)
        answers = linear_answers(seen[learn], taken[learn], seen[count])
        return Outcome(view, trials, int(np.sum(answers == taken[count])))

    def updates(self) -> tuple[Integers, Integers]:
        """The two updates, as integers of shape (LENGTH,)."""
        limit = self.parameters.limit
        signs = np.random.default_rng(self.seed).choice([-1, 1], LENGTH)
        return signs * np.int64(limit), -signs * np.int64(limit)

    @property
    def parameters(self) -> RingParameters:
        """Of the ring."""
        return choose(self.bits, self.sites)

    def observers(self) -> Mapping[str, Observe]:
        """By view, what a party sees; one key serves all trials."""
        ring = _Ring(RingKey(self.parameters))
        return {
            "coordinator": ring.ciphertext,
            "initiators_own": ring.initiators_own,
            "neighbour": ring.with_another_key,
            "neighbours": ring.difference,
            "initiator_pairwise": ring.masked_words,
            "initiator_none": ring.bare_words,
        }


class _Ring:
    """The parties' eyes on one ring."""

    def __init__(self, key: RingKey) -> None:
        self.key = key
        self.parameters = key.context.parameters
        self.modulus = data_modulus(self.parameters)
        self.stranger = RingKey(self.parameters)

    def ciphertext(self, integers: Integers) -> Floats:
        """Both polynomials of what a site adds."""
        [data] = self._encrypted(integers)
        return self._numbers(data, data)

    def initiators_own(self, integers: Integers) -> Floats:
        """The initiator's, by its secret key: one polynomial, and the seed of the other."""
        [data] = self.key.encrypt(self._reals(integers))
        return self._numbers(data[: 8 * self.parameters.degree], data)

    def with_another_key(self, integers: Integers) -> Floats:
        """What the ciphertext decrypts to with a key of the attacker's own, one number a value."""
        return self._read(self.stranger, self._encrypted(integers))

    def difference(self, integers: Integers) -> Floats:
        """The sums before and after a site, each decrypted with a key of the attackers' own."""
        context = self.key.context
        running = context.encrypt(np.zeros(self._count))
        before = context.to_bytes(running)
        context.add(running, context.from_bytes(self._encrypted(integers)))
        after = context.to_bytes(running)
        return self._read(self.stranger, after) - self._read(self.stranger, before)

    def masked_words(self, integers: Integers) -> Floats:
        """What the key opens where all but one of the sites that share masks with this one help."""
        site, other = MaskKey(), MaskKey()
        keys = {"C": site.pair_key(other.public, "distinguishing test")}
        hidden = site_mask("B", keys, 0, self._count, self.parameters.word_bits)
        return self._opened(integers, hidden)

    def bare_words(self, integers: Integers) -> Floats:
        """What the key opens without masks."""
        return self._opened(integers, 0)

    @property
    def _count(self) -> int:
        return self.parameters.degree

    def _reals(self, integers: Integers, mask: Integers | int = 0) -> Floats:
        return to_reals(pack(integers, self.parameters), mask, self.parameters)

    def _encrypted(self, integers: Integers, mask: Integers | int = 0) -> list[bytes]:
        context = self.key.context
        return context.to_bytes(context.encrypt(self._reals(integers, mask)))

    def _numbers(self, polynomials: bytes, data: bytes) -> Floats:
        """Each number centred, -0.5 to 0.5; and how often each byte occurs."""
        numbers = np.frombuffer(polynomials, dtype="<u8") / self.modulus - 0.5
        counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
        return np.concatenate([numbers, counts / len(data)])

    def _opened(self, integers: Integers, mask: Integers | int) -> Floats:
        """Encrypted, decrypted by the ring's key and rounded."""
        size = 2.0**self.parameters.word_bits
        found: Floats = np.rint(size * self._read(self.key, self._encrypted(integers, mask))) / size
        return found

    def _read(self, key: RingKey, data: Sequence[bytes]) -> Floats:
        """The first words by some key, as shares of the largest."""
        words = key.decrypt(key.context.from_bytes(data))[:LENGTH]
        return words / 2.0**self.parameters.word_bits


def linear_answers(seen: Floats, taken: Integers, new: Floats, ridge: float = 1.0) -> Integers:
    """Which of the two it was, by ridge regression on the trials that the attacker learns from.

    Where single features give the answer away beyond chance, only those are used; else all,
    which finds what is spread thinly over many. Solved in the space of trials, of which there are
    fewer than features.

    Args:
        seen: (trials, features) to learn from.
        taken: (trials,) of 0 and 1.
        new: (others, features).
        ridge: penalty, as a share of the mean squared size of the features.

    Returns:
        (others,) of 0 and 1.
    """
    centre, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-12
    known, asked = (seen - centre) / spread, (new - centre) / spread
    side = 2.0 * taken - 1.0
    side -= side.mean()
    deviations = np.abs(side @ known) / math.sqrt(len(known))
    telling = deviations > TELLING
    if telling.any():
        known, asked = known[:, telling], asked[:, telling]
    products = known @ known.T
    products += ridge * np.trace(products) / len(known) * np.eye(len(known))
    weights = np.linalg.solve(products, side)
    answers: Integers = (asked @ (known.T @ weights) > 0).astype(np.int64)
    return answers
