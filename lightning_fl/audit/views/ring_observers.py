"""What each party of a ring sees of one site's integers, as features to learn from."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lightning_fl.aggregation.ring.ckks import RingKey
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.masks import MaskKey, site_mask
from lightning_fl.aggregation.ring.packing import pack, to_reals
from lightning_fl.aggregation.ring.packing_parameters import RingParameters
from lightning_fl.audit.views.ring_views import data_modulus

LENGTH = 64
"""Values that are looked at; a real update only has more of the same."""


class ObservedRing:
    """Shows what the parties see of one ring, with a key of its own.

    Args:
        parameters: of the ring.
    """

    def __init__(self, parameters: RingParameters) -> None:
        self.key = RingKey(parameters)
        self.stranger = RingKey(parameters)
        self.parameters = parameters
        self.modulus = data_modulus(parameters)

    def ciphertext(self, integers: Integers) -> Floats:
        """Show both polynomials of what a site adds."""
        [data] = self._encrypted(integers)
        return self._numbers(data, data)

    def initiators_own(self, integers: Integers) -> Floats:
        """Show the initiator's, by its secret key: one polynomial, and the seed of the other."""
        [data] = self.key.encrypt(self._reals(integers))
        return self._numbers(data[: 8 * self.parameters.degree], data)

    def with_another_key(self, integers: Integers) -> Floats:
        """Decrypt the ciphertext with a key of the attacker's own, one number a value."""
        return self._read(self.stranger, self._encrypted(integers))

    def difference(self, integers: Integers) -> Floats:
        """Subtract the sums before and after a site, decrypted with a key of the attackers' own."""
        context = self.key.context
        running = context.encrypt(np.zeros(self.parameters.degree))
        before = context.to_bytes(running)
        context.add(running, context.from_bytes(self._encrypted(integers)))
        after = context.to_bytes(running)
        return self._read(self.stranger, after) - self._read(self.stranger, before)

    def masked_words(self, integers: Integers) -> Floats:
        """Open what the key opens where all but one site that shares masks with this one help."""
        site, other = MaskKey(), MaskKey()
        keys = {"C": site.pair_key(other.public, "distinguishing test")}
        parameters = self.parameters
        return self._opened(
            integers, site_mask("B", keys, 0, parameters.degree, parameters.word_bits)
        )

    def bare_words(self, integers: Integers) -> Floats:
        """Open what the key opens without masks."""
        return self._opened(integers, 0)

    def _reals(self, integers: Integers, mask: Integers | int = 0) -> Floats:
        return to_reals(pack(integers, self.parameters), mask, self.parameters)

    def _encrypted(self, integers: Integers, mask: Integers | int = 0) -> list[bytes]:
        context = self.key.context
        return context.to_bytes(context.encrypt(self._reals(integers, mask)))

    def _numbers(self, polynomials: bytes, data: bytes) -> Floats:
        """Return each number centred, -0.5 to 0.5, and how often each byte occurs."""
        numbers = np.frombuffer(polynomials, dtype="<u8") / self.modulus - 0.5
        counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
        return np.concatenate([numbers, counts / len(data)])

    def _opened(self, integers: Integers, mask: Integers | int) -> Floats:
        """Encrypt, decrypt by the ring's key, and round."""
        size = 2.0**self.parameters.word_bits
        words: Floats = np.rint(size * self._read(self.key, self._encrypted(integers, mask))) / size
        return words

    def _read(self, key: RingKey, data: list[bytes]) -> Floats:
        """Read the first words by some key, as shares of the largest."""
        words = key.decrypt(key.context.from_bytes(data))[:LENGTH]
        return words / 2.0**self.parameters.word_bits


class Observer(NamedTuple):
    """A party of the ring.

    Attributes:
        title: who, and what it sees, for the report.
        protected: whether it is not to tell updates apart.
        features: from the integers of an update to what the party sees of it.
    """

    title: str
    protected: bool
    features: Callable[[ObservedRing, Integers], Floats]


OBSERVERS = {
    "coordinator": Observer("Coordinator: a site's ciphertext", True, ObservedRing.ciphertext),
    "initiators_own": Observer(
        "Coordinator: the initiator's own ciphertext", True, ObservedRing.initiators_own
    ),
    "neighbour": Observer(
        "Next site: the ciphertext, by a key of its own", True, ObservedRing.with_another_key
    ),
    "neighbours": Observer(
        "Both neighbours: the difference, by a key of their own", True, ObservedRing.difference
    ),
    "initiator_pairwise": Observer(
        "Initiator, pairwise masks: what its key opens", True, ObservedRing.masked_words
    ),
    "initiator_none": Observer(
        "Initiator, no masks: what its key opens", False, ObservedRing.bare_words
    ),
}
