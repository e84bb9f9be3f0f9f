"""Answer a ring's operations at a site: join, make or check the key, pass blocks on, close."""

import hmac
import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.agreed_ring import AgreedRing
from lightning_fl.aggregation.ring.byte_tensors import as_bytes, as_tensor, seal
from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.contribution import Contribution
from lightning_fl.aggregation.ring.history import RingDue, RingHistory
from lightning_fl.aggregation.ring.identity import verify
from lightning_fl.aggregation.ring.masks import KEY_BYTES, MaskKey, block_tag, digest_of_terms
from lightning_fl.aggregation.ring.member_state import MemberState, PartTimes
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.aggregation.ring.shares import SIZE, digest_of_share
from lightning_fl.errors import OutOfRangeError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.release import Release
from lightning_fl.training.layout import vector_digest
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError
from lightning_fl.wire.operations import Answer, SiteOperation

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Passed(NamedTuple):
    """Hold what a site keeps of a ring whose blocks it has passed on.

    Attributes:
        ring: identifier of the ring.
        round: of the run.
        blocks: of the ring.
        key: shared with the initiator, to read this site's share of the key to the sums.
    """

    ring: str
    round: int
    blocks: int
    key: bytes


class RingMember:
    """Answer a ring's operations for one site.

    Args:
        settings: of the ring.
        site: holds the update.
        noise: how the site clips its update and what noise it adds; None for neither.

    Attributes:
        state: what the site holds for the ring it is in; None outside of one.
    """

    def __init__(
        self, settings: RingSettings, site: HoldsUpdate, noise: SiteNoise | None = None
    ) -> None:
        self.settings = settings
        self.site = site
        self.noise = noise
        self.state: MemberState | None = None
        self._mask_key: MaskKey | None = None
        self._joined: AgreedRing | None = None
        self._passed: Passed | None = None
        self._history: RingHistory | None = None
        self._releases: dict[tuple[str, str], Release] = {}
        self._times = PartTimes()

    def operations(self) -> Mapping[str, SiteOperation]:
        """Return the operations by name."""
        return {
            "ring_join": self._join,
            "ring_open": self._open,
            "ring_start": self._start,
            "ring_pass": self._pass,
            "ring_close": self._close,
            "ring_reveal": self._reveal,
            "ring_drop": self._drop,
        }

    # ------------------------------------------------------------------ before blocks move

    def _join(self, message: Message) -> Answer:
        """Check the ring, and give the site's mask key to the others, through the coordinator.

        Where the site takes part in another ring of the round, the answer says in which.
        """
        self._expect(message, COORDINATOR)
        history = self._of_run(message.run)
        if not message.ring or history.has(message.ring):
            raise MessageError(f"Ring {message.ring!r} has been used before; its masks are spent.")
        ring = AgreedRing.of(message, self.settings, self.site)
        try:
            history.check(ring.round, ring.order, ring.terms)
        except RingDue as due:
            _log.warning("site %s refuses a ring: %s", self.site.name, due)
            return Answer({"due": due.sites}, {})
        history.join(ring.round, ring.order, ring.terms, ring.name)
        self.state, self._passed = None, None  # no sum of the ring before comes out any more
        self._joined = ring
        if self._mask_key is None:
            self._mask_key = MaskKey()
        mask_key = self._mask_key.public.hex()
        signed = self.settings.sign(self.site.name, ring.membership(self.site.name, mask_key))
        return Answer({"mask_key": mask_key, **signed}, {})

    def _open(self, message: Message) -> Answer:
        """Make the ring's key pair, as its initiator, and publish the public half."""
        ring = self._agreed(message)
        if ring.order[0] != self.site.name:
            raise MessageError(f"Site {ring.order[0]!r} opens this ring, not {self.site.name!r}.")
        with self._times.measure("keys"):
            key = RingKey(ring.plan.parameters)
        state = self._enter(message, ring, key.context, key)
        return self._answer(state, {"public_key": as_tensor([key.public_key])})

    def _start(self, message: Message) -> Answer:
        """Check the ring's public context, as any other site, and make ready."""
        ring = self._agreed(message)
        if ring.order[0] == self.site.name:
            raise MessageError(f"Site {self.site.name!r} opened this ring; it has the key.")
        public_key = bytes(as_bytes(message.tensors.get("public_key")))
        with self._times.measure("keys"):
            context = RingContext(ring.plan.parameters, public_key)
        if context.fingerprint != message.context:
            raise MessageError(
                f"The ring's parameters and public key have the fingerprint {context.fingerprint},"
                f" but the message says {message.context!r}."
            )
        return self._answer(self._enter(message, ring, context, None))

    def _agreed(self, message: Message) -> AgreedRing:
        """Return the ring that the site has joined, with every member's signature checked."""
        self._expect(message, COORDINATOR)
        ring = self._joined
        if ring is None or (message.ring, message.round) != (ring.name, ring.round):
            raise MessageError(
                f"Site {self.site.name!r} has not joined ring {message.ring!r} or is in it already."
            )
        members = _field(message, "members", dict)
        for peer in ring.order if self.settings.pins else ():
            member = members.get(peer)
            mask_key = str(member.get("mask_key")) if isinstance(member, dict) else ""
            statement = ring.membership(peer, mask_key)
            verify(self.settings.pins.get(peer, ""), peer, statement, member)
        return ring

    def _enter(
        self, message: Message, ring: AgreedRing, context: RingContext, key: RingKey | None
    ) -> MemberState:
        weight = self.settings.relative_weight(self.site.samples(), ring.largest)
        contribution = Contribution(
            self.site,
            ring.round,
            ring.plan,
            weight=weight,
            error_feedback=self.settings.compact,
            release=self._release(ring, weight),
            max_norm=self.settings.bounds.norm,
        )
        self._joined = None  # a ring's masks hide one message of this site, so it starts once
        keys = self._pair_keys(message, ring, context.fingerprint)
        self.state = MemberState(
            self.site.name,
            ring,
            contribution,
            context,
            key,
            keys,
            self._masks(ring, keys),
            self._times,
        )
        return self.state

    def _release(self, ring: AgreedRing, weight: float) -> Release | None:
        """Return the site's update with noise: one noise for the same sum, however often asked.

        The noise is in memory alone. After a restart it is new, and counts again.
        """
        noise, key = self.noise, (ring.run, ring.terms)
        if noise is None:
            return None
        if key not in self._releases:
            sites = len(ring.order)
            self.site.count_release(noise.left(sites, sites))
            step = float(ring.plan.grid.steps(0, 1)[0])  # the wide grid has one step everywhere
            update = partial(self.site.update, ring.round)
            release = Release(
                noise, update, ring.plan.length, weight=weight, sites=sites, step=step
            )
            self._releases = {key: release}
        return self._releases[key]

    def _masks(self, ring: AgreedRing, keys: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the keys of this site's masks; see `MemberState`."""
        if self.settings.masking == "pairwise":
            return keys
        leads = self.settings.masking == "initiator" and ring.order[0] == self.site.name
        return {self.site.name: os.urandom(KEY_BYTES)} if leads else {}

    def _pair_keys(self, message: Message, ring: AgreedRing, context: str) -> dict[str, bytes]:
        """Return the key that this site shares with each other one for this ring."""
        members = _field(message, "members", dict)
        labels = (ring.run, ring.round, ring.name, context, ring.terms, digest_of_terms(members))
        peers = [peer for peer in ring.order if peer != self.site.name]
        return {peer: self._pair_key(peer, members.get(peer), labels) for peer in peers}

    def _pair_key(self, peer: str, member: Any, labels: Sequence[str | int]) -> bytes:
        try:
            mask_key = bytes.fromhex(member["mask_key"])
        except (TypeError, KeyError, ValueError) as error:
            raise MessageError(f"No usable mask key of site {peer!r} arrived: {member}.") from error
        if self._mask_key is None or mask_key == self._mask_key.public:
            raise MessageError(f"The mask key said to be from {peer!r} is this site's own.")
        return self._mask_key.pair_key(mask_key, *labels, *sorted((self.site.name, peer)))

    # ------------------------------------------------------------------ blocks move

    def _pass(self, message: Message) -> Answer:
        """Encrypt one more block ahead and, when a block arrives, add to it and pass it on."""
        state = self._current(message)
        state.encrypt_ahead()
        if message.sender == COORDINATOR and message.info.get("ahead"):
            return self._answer(state)
        order, place, blocks = state.ring.order, state.place, state.ring.plan.blocks
        self._expect(message, order[place - 1] if place else COORDINATOR)
        if message.step != state.passed or message.step >= blocks:
            raise MessageError(
                f"Site {self.site.name!r} expects block {state.passed} of {blocks} of ring "
                f"{message.ring!r}, but got {message.step}; a block passes once."
            )
        pieces = state.add(self._sent(state, message)) if place else state.take()
        if state.passed == blocks and state.key is None:
            self.state = None
            self._passed = Passed(state.ring.name, message.round, blocks, state.keys[order[0]])
        following, block = order[(place + 1) % len(order)], as_tensor(pieces)
        name, key = self.site.name, state.keys[following]
        info = {"tag": block_tag(key, name, message.step, as_bytes(block))}
        return self._answer(state, {"block": block}, info=info, recipient=following)

    def _close(self, message: Message) -> Answer:
        """Decrypt a block, as the initiator; what it gives back can be read after the last one."""
        state = self._current(message)
        blocks = state.ring.plan.blocks
        self._expect(message, state.ring.order[-1])
        if state.key is None or state.passed < blocks or message.step != state.closed:
            raise MessageError(
                f"Site {self.site.name!r} cannot close block {message.step} of ring "
                f"{message.ring!r}: it has passed {state.passed} and closed {state.closed} of "
                f"{blocks} blocks."
            )
        block = self._sent(state, message)
        try:
            sums = state.decrypt(block)
        except OutOfRangeError:
            self.state = None  # whoever sends garbage gets one answer, not an oracle
            raise
        sealed = seal(state.seal, message.step, sums.numpy().tobytes())
        info: dict[str, Any] = {}
        if state.closed == blocks:
            self.state = None  # and with it the secret key
            info = self._opened(state)
        return self._answer(state, {"sums": as_tensor([sealed])}, info=info)

    def _sent(self, state: MemberState, message: Message) -> memoryview:
        """Return a block as the site before has sent it.

        Anyone with the public key can make a ciphertext, and add to one. So a coordinator could
        choose the sum that the initiator signs.
        """
        block = as_bytes(message.tensors.get("block"))
        sender = message.sender
        tag = block_tag(state.keys[sender], sender, message.step, block)
        if not hmac.compare_digest(tag.encode(), str(message.info.get("tag")).encode()):
            raise MessageError(f"Block {message.step} is not as site {sender!r} sent it.")
        return block

    def _opened(self, state: MemberState) -> dict[str, Any]:
        """Return what belongs to the sums, sealed, and for each other site a share of the key.

        A share is hidden from the coordinator until its site gives it. Beside it is its digest, so
        that a false one is known.
        """
        ring, counts = state.ring, state.counts()
        blocks = ring.plan.blocks  # no block of masks or sums has this number
        digest = vector_digest(self.settings.mean(torch.cat(state.sums), counts, ring.largest))
        self._of_run(ring.run).open(ring.round, ring.name)
        signed = self.settings.sign(self.site.name, ring.mean(digest))
        facts = json.dumps({"counts": counts, "mean": digest, **signed}).encode()
        shares = {
            peer: [seal(state.keys[peer], blocks, share).hex(), digest_of_share(share)]
            for peer, share in zip(ring.order[1:], state.shares, strict=True)
        }
        return {"facts": seal(state.seal, blocks, facts).hex(), "shares": shares}

    def _reveal(self, message: Message) -> Answer:
        """Give this site's share of the key to the sums; it opens no other sum of the round."""
        self._expect(message, COORDINATOR)
        passed = self._passed
        if passed is None or (passed.ring, passed.round) != (message.ring, message.round):
            raise MessageError(
                f"Site {self.site.name!r} has no share of ring {message.ring!r}, or has gone on to "
                "another ring since."
            )
        sealed = _field(message, "share", str)
        try:
            share = seal(passed.key, passed.blocks, bytes.fromhex(sealed))
        except ValueError as error:
            raise MessageError(f"{sealed!r} is no share of a key: {error}.") from error
        if len(share) != SIZE:
            raise MessageError(f"A share of a key has {SIZE} bytes, but {len(share)} came.")
        self._of_run(message.run).open(passed.round, passed.ring)
        return Answer({"share": share.hex()}, {})

    def _drop(self, message: Message) -> Answer:
        """Forget the ring and its keys."""
        self._expect(message, COORDINATOR)
        if self._joined is not None and message.ring == self._joined.name:
            self._joined = None
        if self.state is not None and message.ring == self.state.ring.name:
            self.state = None
        if self._passed is not None and message.ring == self._passed.ring:
            self._passed = None
        return Answer({}, {})

    # ------------------------------------------------------------------ checks and answers

    def _of_run(self, run: str) -> RingHistory:
        """Return the history of the rings of a run, read once."""
        if self._history is None or self._history.run != run:
            self._history = RingHistory(self.site.folder, run)
        return self._history

    def _current(self, message: Message) -> MemberState:
        """Return the state of the ring that a message belongs to, or refuse the message."""
        state = self.state
        current = None if state is None else (state.ring.name, state.ring.round)
        if state is None or current != (message.ring, message.round):
            raise MessageError(
                f"A message for (ring, round) {(message.ring, message.round)} reached site "
                f"{self.site.name!r}, which is in {current}."
            )
        if message.context != state.context.fingerprint:
            raise MessageError(
                f"A message for ring {message.ring!r} has the context {message.context!r}, but the "
                f"ring's is {state.context.fingerprint}: it belongs to another key."
            )
        return state

    def _expect(self, message: Message, sender: str) -> None:
        if (message.sender, message.recipient) != (sender, self.site.name):
            raise MessageError(
                f"A message from {message.sender!r} to {message.recipient!r} reached site "
                f"{self.site.name!r}, where one from {sender!r} was due."
            )

    def _answer(
        self,
        state: MemberState,
        tensors: Mapping[str, Tensor] | None = None,
        *,
        info: Mapping[str, Any] | None = None,
        recipient: str = COORDINATOR,
    ) -> Answer:
        facts = {**(info or {}), "seconds": self._times.take()}
        return Answer(facts, dict(tensors or {}), recipient, state.context.fingerprint)


def _field(message: Message, name: str, kind: type[T]) -> T:
    value = message.info.get(name)
    if not isinstance(value, kind):
        raise MessageError(f"A message says {name} = {value!r}, which is no {kind.__name__}.")
    return value
