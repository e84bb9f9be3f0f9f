"""Hold a site's part in one ring, and add it to the blocks that pass."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.agreed_ring import AgreedRing
from lightning_fl.aggregation.ring.ckks import Ciphertext, RingContext, RingKey
from lightning_fl.aggregation.ring.contribution import Contribution
from lightning_fl.aggregation.ring.fixed_point import Integers, from_limbs
from lightning_fl.aggregation.ring.masks import site_mask
from lightning_fl.aggregation.ring.packing import from_reals, pack, to_reals, unpack
from lightning_fl.aggregation.ring.packing_parameters import LIMBS
from lightning_fl.aggregation.ring.ring_plan import AHEAD
from lightning_fl.aggregation.ring.shares import make_shares, needed_shares
from lightning_fl.errors import OutOfRangeError
from lightning_fl.wire.messages import MessageError
from lightning_fl.wire.operations import fixed_width


class PartTimes:
    """Add up the seconds that each part of an operation takes."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add what the block under `with` takes."""
        start = time.perf_counter()
        yield
        self._seconds[part] += time.perf_counter() - start

    def take(self) -> dict[str, str]:
        """Return the sums by part, as texts of one width, and begin again."""
        texts = {part: fixed_width(seconds) for part, seconds in self._seconds.items()}
        self._seconds.clear()
        return texts


@dataclass
class MemberState:
    """Hold what a site has for the ring it is in, until its part is done.

    Attributes:
        site: name of the site.
        ring: the ring.
        contribution: the site's own integers.
        context: to encrypt and to add.
        key: the secret key; at the initiator alone.
        keys: by name of each other site the key shared with it for this ring.
        masks: by name of another site the key shared with it (pairwise masking); under the site's
            own name the key of the initiator's mask.
        times: of the parts of an operation.
        seal: key under which the initiator hands out sums.
        shares: of that key, one for each other site in the order of the ring.
        ready: own blocks that are encrypted and not yet passed on; the initiator's as bytes.
        encrypted: how many own blocks have been encrypted.
        passed: how many blocks have been passed on.
        closed: how many blocks have been decrypted.
        sums: of the decrypted blocks, float32.
    """

    site: str
    ring: AgreedRing
    contribution: Contribution = field(repr=False)
    context: RingContext = field(repr=False)
    key: RingKey | None = field(repr=False)
    keys: Mapping[str, bytes] = field(repr=False)
    masks: Mapping[str, bytes] = field(repr=False)
    times: PartTimes = field(repr=False)

    def __post_init__(self) -> None:
        others = len(self.ring.order) - 1
        leads = self.key is not None
        self.seal, self.shares = make_shares(needed_shares(others + 1), others * leads)
        self.ready: dict[int, Any] = {}
        self.encrypted = self.passed = self.closed = 0
        self.sums: list[Tensor] = []
        self._limbs: list[Integers] = []

    @property
    def place(self) -> int:
        """The site's place in the ring; 0 is the initiator's."""
        return self.ring.order.index(self.site)

    def encrypt_ahead(self) -> None:
        """Encrypt the next own block, unless enough are waiting."""
        block = self.encrypted
        if block == self.ring.plan.blocks or len(self.ready) > AHEAD:
            return
        with self.times.measure("encode"):
            words = pack(self.contribution.integers(block), self.ring.plan.parameters)
            mask = self._mask(self.masks, block, len(words))
            reals = to_reals(words, mask, self.ring.plan.parameters)
        with self.times.measure("encrypt"):
            self.ready[block] = (self.key or self.context).encrypt(reals)
        self.encrypted += 1

    def take(self) -> list[bytes]:
        """Return the initiator's next block, with which a sum begins."""
        pieces: list[bytes] = self.ready.pop(self.passed)
        self.passed += 1
        return pieces

    def add(self, data: memoryview) -> list[bytes]:
        """Return the next block, with this site's part added to what arrived.

        Raises:
            MessageError: what arrived are no ciphertexts of this ring.
        """
        with self.times.measure("add"):
            total = self._ciphertexts(data, self.passed)
            self.context.add(total, self.ready[self.passed])
            pieces = self.context.to_bytes(total)
        del self.ready[self.passed]
        self.passed += 1
        return pieces

    def decrypt(self, data: memoryview) -> Tensor:
        """Return the next block's sums, float32; `counts` reads the counts among them.

        Raises:
            MessageError: what arrived are no ciphertexts of this ring.
            OutOfRangeError: no sum of the sites' integers decrypts to what arrived.
            ValueError: the site is not the initiator.
        """
        if self.key is None:
            raise ValueError(f"Site {self.site!r} has no key of ring {self.ring.name!r}.")
        plan = self.ring.plan
        start, stop = plan.span(self.closed)
        with self.times.measure("decrypt"):
            reals = self.key.decrypt(self._ciphertexts(data, self.closed))
            # pairwise masks have cancelled in the sum; the initiator's own has not
            left = {peer: key for peer, key in self.masks.items() if peer == self.site}
            mask = self._mask(left, self.closed, len(reals))
            words = from_reals(reals, mask, plan.parameters)
            integers = unpack(words, plan.parameters, stop - start)
        end = max(min(plan.length - start, len(integers)), 0)
        self._limbs.append(integers[end:])
        self.closed += 1
        values = plan.grid.to_values(integers[:end], start)
        self.sums.append(torch.from_numpy(values.astype("<f4")))
        return self.sums[-1]

    def counts(self) -> dict[str, int]:
        """Return the sums of the counts, once all blocks are decrypted.

        Raises:
            OutOfRangeError: the sites do not add up to those of the ring.
        """
        limbs = np.concatenate(self._limbs).reshape(-1, LIMBS)
        sums = dict(zip(self.ring.plan.counts, map(from_limbs, limbs), strict=True))
        sites = len(self.ring.order)
        if sums["sites"] != sites:
            raise OutOfRangeError(
                f"The parts of {sites} sites do not add up to {sites}: some site did not add its "
                "own, or sites were told different things about this ring."
            )
        return sums

    def _ciphertexts(self, data: memoryview, block: int) -> list[Ciphertext]:
        """Cut what arrived into a block's ciphertexts."""
        seeded = self.place == 1  # the initiator's fresh ciphertexts arrive here
        forms = self.context.forms
        size = forms.seeded.size if seeded else forms.ciphertext.size
        count = self.ring.plan.ciphertexts_in(block)
        if len(data) != count * size:
            raise MessageError(
                f"Block {block} should hold {count} ciphertexts of {size} bytes, but has "
                f"{len(data)} bytes."
            )
        pieces = [data[i * size : (i + 1) * size] for i in range(count)]
        return self.context.from_bytes(pieces, seeded=seeded)

    def _mask(self, keys: Mapping[str, bytes], block: int, count: int) -> Integers:
        return site_mask(self.site, keys, block, count, self.ring.plan.parameters.word_bits)
