"""A site's part in one ring: what it holds, and what it does with its own and others' blocks."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.contribution import Contribution
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers, from_limbs
from lightning_fl.aggregation.ring.masks import KEY_BYTES, site_mask
from lightning_fl.aggregation.ring.packing import from_reals, pack, to_reals, unpack
from lightning_fl.aggregation.ring.packing_parameters import LIMBS
from lightning_fl.aggregation.ring.ring_plan import AHEAD, RingPlan
from lightning_fl.errors import OutOfRangeError

T = TypeVar("T")


class Stopwatch:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, act: Callable[[], T]) -> T:
        """Do `act` and add what it takes under `name`."""
        start = time.perf_counter()
        result = act()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result


@dataclass
class Membership:
    """What a site holds for the ring it is in; given up when its part is done.

    Attributes:
        site: name of the site.
        ring: identifier of the ring.
        round: of the run.
        order: the sites, the initiator first.
        plan: the ring's packing.
        contribution: the site's own integers.
        context: to encrypt and to add.
        key: the secret key; at the initiator alone.
        masks: by name of another site the key shared with it (pairwise masking); under the site's
            own name the key of the initiator's mask.
        watch: takes the time of each part.
        seal: key under which the initiator hands out sums before it has opened all blocks.
        ready: own blocks that are encrypted and not yet passed on; the initiator's as bytes.
        encrypted: how many own blocks have been encrypted.
        passed: how many blocks have been passed on.
        closed: how many blocks have been decrypted.
    """

    site: str
    ring: str
    round: int
    order: tuple[str, ...]
    plan: RingPlan
    contribution: Contribution = field(repr=False)
    context: RingContext = field(repr=False)
    key: RingKey | None = field(repr=False)
    masks: dict[str, bytes] = field(repr=False)
    watch: Stopwatch = field(repr=False)
    seal: bytes = field(default_factory=lambda: os.urandom(KEY_BYTES), repr=False)
    ready: dict[int, Any] = field(default_factory=dict, repr=False)
    encrypted: int = 0
    passed: int = 0
    closed: int = 0
    _limbs: list[Integers] = field(default_factory=list, repr=False)

    @property
    def _second(self) -> bool:
        """Whether the initiator's fresh ciphertexts arrive here, of which one half is a seed."""
        return self.order[1] == self.site

    @property
    def ciphertext_bytes(self) -> int:
        """Size of each ciphertext that arrives."""
        forms = self.context.forms
        return forms.seeded.size if self._second else forms.ciphertext.size

    def encrypt_ahead(self) -> None:
        """Encrypt the next own block, unless enough are waiting."""
        block = self.encrypted
        if block == self.plan.blocks or len(self.ready) > AHEAD:
            return
        reals = self.watch.time("encode", lambda: self._reals(block))
        encrypt = self.context.encrypt if self.key is None else self.key.encrypt
        self.ready[block] = self.watch.time("encrypt", lambda: encrypt(reals))
        self.encrypted += 1

    def take(self) -> list[bytes]:
        """The initiator's next block, with which a sum begins."""
        own: list[bytes] = self.ready.pop(self.passed)
        self.passed += 1
        return own

    def add(self, pieces: Sequence[memoryview]) -> list[bytes]:
        """The next block with this site's part added to what arrived.

        Raises:
            MessageError: what arrived are no ciphertexts of this ring.
        """

        def add() -> list[bytes]:
            arrived = self.context.from_bytes(pieces, seeded=self._second)
            self.context.add(arrived, self.ready[self.passed])
            return self.context.to_bytes(arrived)

        total = self.watch.time("add", add)
        del self.ready[self.passed]
        self.passed += 1
        return total

    def decrypt(self, pieces: Sequence[memoryview]) -> Floats:
        """The next block's sums as real values; counts are put aside for `counts`.

        Raises:
            MessageError: what arrived are no ciphertexts of this ring.
            OutOfRangeError: no sum of the sites' integers decrypts to what arrived.
        """
        integers = self.watch.time("decrypt", lambda: self._integers(pieces))
        start, _ = self.plan.span(self.closed)
        end = max(min(self.plan.length - start, len(integers)), 0)
        self._limbs.append(integers[end:])
        self.closed += 1
        return self.plan.grid.to_values(integers[:end], start)

    def counts(self) -> dict[str, int]:
        """The sums of the counts, once all blocks are decrypted.

        Raises:
            OutOfRangeError: the sites do not add up to those of the ring.
        """
        limbs = np.concatenate(self._limbs)
        found = {
            name: from_limbs(limbs[LIMBS * i : LIMBS * (i + 1)])
            for i, name in enumerate(self.plan.counts)
        }
        if found["sites"] != len(self.order):
            raise OutOfRangeError(
                f"The parts of {len(self.order)} sites do not add up to {len(self.order)}: some "
                "site did not add its own, or sites were told different things about this ring."
            )
        return found

    def _integers(self, pieces: Sequence[memoryview]) -> Integers:
        if self.key is None:
            raise ValueError(f"Site {self.site!r} has no key of ring {self.ring!r}.")
        start, stop = self.plan.span(self.closed)
        parameters = self.plan.parameters
        reals = self.key.decrypt(self.context.from_bytes(pieces))
        mask = self._mask(self.closed, len(reals), own=True)
        return unpack(from_reals(reals, mask, parameters), parameters, stop - start)

    def _reals(self, block: int) -> Floats:
        words = pack(self.contribution.integers(block), self.plan.parameters)
        return to_reals(words, self._mask(block, len(words)), self.plan.parameters)

    def _mask(self, block: int, count: int, *, own: bool = False) -> Integers:
        """The site's mask; or, if `own`, the part of it that does not cancel in the sum."""
        keys = {k: v for k, v in self.masks.items() if k == self.site or not own}
        return site_mask(self.site, keys, block, count, self.plan.parameters.word_bits)
