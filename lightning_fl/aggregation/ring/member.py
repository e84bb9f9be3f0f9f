"""Answer a ring's operations at a site: join, make or check the key, pass blocks on, close."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.byte_tensors import as_bytes, as_tensor, seal
from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.contribution import Contribution
from lightning_fl.aggregation.ring.identity import verify
from lightning_fl.aggregation.ring.masks import KEY_BYTES, MaskKey, agreement
from lightning_fl.aggregation.ring.member_state import AgreedRing, MemberState, PartTimes
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError
from lightning_fl.wire.operations import Answer, SiteOperation

T = TypeVar("T")


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
        self._joined = ""
        self._used: set[str] = set()
        self._times = PartTimes()

    def operations(self) -> Mapping[str, SiteOperation]:
        """Return the operations by name."""
        return {
            "ring_join": self._join,
            "ring_open": self._open,
            "ring_start": self._start,
            "ring_pass": self._pass,
            "ring_close": self._close,
            "ring_drop": self._drop,
        }

    # ------------------------------------------------------------------ before blocks move

    def _join(self, message: Message) -> Answer:
        """Give the site's mask key to the others, through the coordinator."""
        self._expect(message, COORDINATOR)
        if not message.ring or message.ring in self._used:
            raise MessageError(f"Ring {message.ring!r} has been used before; its masks are spent.")
        self.state = None
        self._used.add(message.ring)
        self._joined = message.ring
        if self._mask_key is None:
            self._mask_key = MaskKey()
        info = {"mask_key": self._mask_key.public.hex()}
        identity = self.settings.identity(self.site.name)
        if identity is not None:
            signature = identity.sign(message.run, self.site.name, self._mask_key.public)
            info |= {"identity": identity.public.hex(), "signature": signature.hex()}
        return Answer(info, {})

    def _open(self, message: Message) -> Answer:
        """Make the ring's key pair, as its initiator, and publish the public half."""
        ring = self._agree(message)
        if ring.order[0] != self.site.name:
            raise MessageError(f"Site {ring.order[0]!r} opens this ring, not {self.site.name!r}.")
        with self._times.measure("keys"):
            key = RingKey(ring.plan.parameters)
        state = self._enter(message, ring, key.context, key)
        return self._answer(state, {"public_key": as_tensor([key.public_key])})

    def _start(self, message: Message) -> Answer:
        """Check the ring's public context, as any other site, and make ready."""
        ring = self._agree(message)
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

    def _agree(self, message: Message) -> AgreedRing:
        """Work the ring's order and plan out, and check them."""
        self._expect(message, COORDINATOR)
        if message.ring != self._joined or self.state is not None:
            raise MessageError(
                f"Site {self.site.name!r} has not joined ring {message.ring!r} or is in it already."
            )
        order = tuple(_field(message, "order", list))
        named = all(type(site) is str for site in order)
        if not named or len(set(order)) != len(order) or self.site.name not in order:
            raise MessageError(f"The order {order} is no ring that {self.site.name!r} is in.")
        try:
            self.settings.check_sites(len(order))
        except ConfigError as error:
            raise MessageError(str(error)) from error
        plan = self.settings.plan(len(order), self.site.layout, message.info.get("exponents"))
        return AgreedRing(message.ring, message.round, order, plan)

    def _enter(
        self, message: Message, ring: AgreedRing, context: RingContext, key: RingKey | None
    ) -> MemberState:
        contribution = Contribution(
            self.site,
            message.round,
            ring.plan,
            weight=self.settings.relative_weight(self.site.samples(), message.info.get("largest")),
            error_feedback=self.settings.compact,
            noise=self.noise,
        )
        self.site.update(message.round, 0, 0)  # refuses a round that has no update here
        self._joined = ""  # a ring's masks hide one message of this site, so it starts once
        masks = self._masks(message, ring.order, context.fingerprint)
        self.state = MemberState(
            self.site.name, ring, contribution, context, key, masks, self._times
        )
        return self.state

    def _masks(self, message: Message, order: tuple[str, ...], context: str) -> dict[str, bytes]:
        site = self.site.name
        if self.settings.masking == "none":
            return {}
        if self.settings.masking == "initiator":
            return {site: os.urandom(KEY_BYTES)} if site == order[0] else {}
        members = _field(message, "members", dict)
        peers = [peer for peer in order if peer != site]
        return {peer: self._pair_key(message, peer, members.get(peer), context) for peer in peers}

    def _pair_key(self, message: Message, peer: str, member: Any, context: str) -> bytes:
        try:
            mask_key = bytes.fromhex(member["mask_key"])
            identity = bytes.fromhex(member.get("identity", ""))
            signature = bytes.fromhex(member.get("signature", ""))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise MessageError(f"No usable mask key of site {peer!r} arrived: {member}.") from error
        if self.settings.pins:
            pin, run = self.settings.pins.get(peer, ""), message.run
            verify(pin, identity, signature, run=run, site=peer, mask_key=mask_key)
        if self._mask_key is None or mask_key == self._mask_key.public:
            raise MessageError(f"The mask key said to be from {peer!r} is this site's own.")
        labels = (message.run, message.round, message.ring, context, agreement(message.info))
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
        pieces = state.add(as_bytes(message.tensors.get("block"))) if place else state.take()
        if state.passed == blocks and state.key is None:
            self.state = None
        tensors = {"block": as_tensor(pieces)}
        return self._answer(state, tensors, recipient=order[(place + 1) % len(order)])

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
        try:
            sums = state.decrypt(as_bytes(message.tensors.get("block")))
        except OutOfRangeError:
            self.state = None  # whoever sends garbage gets one answer, not an oracle
            raise
        sealed = seal(state.seal, message.step, sums.astype("<f4").tobytes())
        info: dict[str, Any] = {}
        if state.closed == blocks:
            self.state = None  # and with it the secret key
            info = {"seal": state.seal.hex(), "counts": state.counts()}
        return self._answer(state, {"sums": as_tensor([sealed])}, info=info)

    def _drop(self, message: Message) -> Answer:
        """Forget the ring and its key."""
        self._expect(message, COORDINATOR)
        if message.ring == self._joined:
            self._joined = ""
        if self.state is not None and message.ring == self.state.ring.name:
            self.state = None
        return Answer({}, {})

    # ------------------------------------------------------------------ checks and answers

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
