"""The site's half of the ring: join, make or check the ring's key, pass blocks on, close."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from lightning_fl.aggregation.base import Answer, HoldsUpdate, SiteOperation
from lightning_fl.aggregation.ring.byte_tensors import as_bytes, as_tensor, seal
from lightning_fl.aggregation.ring.ckks import RingContext, RingKey
from lightning_fl.aggregation.ring.contribution import Contribution
from lightning_fl.aggregation.ring.identity import verify
from lightning_fl.aggregation.ring.masks import KEY_BYTES, MaskKey, agreement
from lightning_fl.aggregation.ring.member_state import Membership, Stopwatch
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.aggregation.ring.settings import RingSettings
from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError

T = TypeVar("T")


class RingMember:
    """Answers a ring's operations for one site.

    Args:
        settings: of the ring.
        site: holds the update.
        noise: how the site clips its update and what noise it adds; None for neither.
    """

    def __init__(
        self, settings: RingSettings, site: HoldsUpdate, noise: SiteNoise | None = None
    ) -> None:
        self.settings = settings
        self.site = site
        self.noise = noise
        self.membership: Membership | None = None
        self._mask_key: MaskKey | None = None
        self._joined = ""
        self._used: set[str] = set()
        self._watch = Stopwatch()

    def operations(self) -> Mapping[str, SiteOperation]:
        """The operations by name."""
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
        self._from_coordinator(message)
        if not message.ring or message.ring in self._used:
            raise MessageError(f"Ring {message.ring!r} has been used before; its masks are spent.")
        self.membership = None
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
        """The initiator makes the ring's key pair and publishes the public half."""
        order, plan = self._agree(message)
        if order[0] != self.site.name:
            raise MessageError(f"Site {order[0]!r} opens this ring, not {self.site.name!r}.")
        key = self._watch.time("keys", lambda: RingKey(plan.parameters))
        self._enter(message, order, plan, key.context, key)
        return self._answer(
            tensors={"public_key": as_tensor([key.public_key])}, context=key.context.fingerprint
        )

    def _start(self, message: Message) -> Answer:
        """The others check the public context and make ready."""
        order, plan = self._agree(message)
        if order[0] == self.site.name:
            raise MessageError(f"Site {self.site.name!r} opened this ring; it has the key.")
        data = as_bytes(message.tensors.get("public_key"))
        context = self._watch.time("keys", lambda: RingContext(plan.parameters, bytes(data)))
        if context.fingerprint != message.context:
            raise MessageError(
                f"The ring's parameters and public key have the fingerprint {context.fingerprint},"
                f" but the message says {message.context!r}."
            )
        self._enter(message, order, plan, context, None)
        return self._answer(context=context.fingerprint)

    def _agree(self, message: Message) -> tuple[tuple[str, ...], RingPlan]:
        """The ring's order and plan, worked out and checked by the site itself."""
        self._from_coordinator(message)
        if message.ring != self._joined or self.membership is not None:
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
        exponents = message.info.get("exponents")
        return order, self.settings.plan(len(order), self.site.layout, exponents)

    def _enter(
        self,
        message: Message,
        order: tuple[str, ...],
        plan: RingPlan,
        context: RingContext,
        key: RingKey | None,
    ) -> None:
        weight = self.settings.relative_weight(self.site.samples(), message.info.get("largest"))
        contribution = Contribution(
            self.site,
            message.round,
            plan,
            weight=weight,
            error_feedback=self.settings.compact,
            noise=self.noise,
        )
        self.site.update(message.round, 0, 0)  # refuses a round that has no update here
        self._joined = ""  # a ring's masks hide one message of this site, so it starts once
        masks = self._masks(message, order, context.fingerprint)
        self.membership = Membership(
            site=self.site.name,
            ring=message.ring,
            round=message.round,
            order=order,
            plan=plan,
            contribution=contribution,
            context=context,
            key=key,
            masks=masks,
            watch=self._watch,
        )

    def _masks(self, message: Message, order: Sequence[str], context: str) -> dict[str, bytes]:
        own = self.site.name
        if self.settings.masking == "none":
            return {}
        if self.settings.masking == "initiator":
            return {own: os.urandom(KEY_BYTES)} if own == order[0] else {}
        members = _field(message, "members", dict)
        return {
            peer: self._pair_key(message, peer, members.get(peer), context)
            for peer in order
            if peer != own
        }

    def _pair_key(self, message: Message, peer: str, said: Any, context: str) -> bytes:
        try:
            mask_key = bytes.fromhex(said["mask_key"])
            identity = bytes.fromhex(said.get("identity", ""))
            signature = bytes.fromhex(said.get("signature", ""))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise MessageError(f"No usable mask key of site {peer!r} arrived: {said}.") from error
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
        me = self._member(message)
        me.encrypt_ahead()
        if message.sender == COORDINATOR and message.info.get("ahead"):
            return self._answer(context=me.context.fingerprint)
        block, position = message.step, me.order.index(self.site.name)
        self._expect(message, sender=me.order[position - 1] if position else COORDINATOR)
        if block != me.passed or block >= me.plan.blocks:
            raise MessageError(
                f"Site {self.site.name!r} expects block {me.passed} of {me.plan.blocks} of ring "
                f"{me.ring!r}, but got {block}; a block passes once."
            )
        pieces = me.take() if position == 0 else me.add(self._pieces(me, message))
        following = me.order[(position + 1) % len(me.order)]
        answer = self._answer(pieces, recipient=following, context=me.context.fingerprint)
        if me.passed == me.plan.blocks and me.key is None:
            self.membership = None
        return answer

    def _pieces(self, me: Membership, message: Message) -> list[memoryview]:
        """A block's ciphertexts, cut out of the message."""
        data = as_bytes(message.tensors.get("block"))
        count, size = me.plan.ciphertexts_in(message.step), me.ciphertext_bytes
        if len(data) != count * size:
            raise MessageError(
                f"Block {message.step} should hold {count} ciphertexts of {size} bytes, but has "
                f"{len(data)} bytes."
            )
        return [data[i * size : (i + 1) * size] for i in range(count)]

    def _close(self, message: Message) -> Answer:
        """The initiator decrypts a block; what it gives back can be read after the last one."""
        me = self._member(message)
        self._expect(message, sender=me.order[-1])
        if me.key is None or me.passed < me.plan.blocks or message.step != me.closed:
            raise MessageError(
                f"Site {self.site.name!r} cannot close block {message.step} of ring {me.ring!r}: "
                f"it has passed {me.passed} and closed {me.closed} of {me.plan.blocks} blocks."
            )
        try:
            sums = me.decrypt(self._pieces(me, message))
        except OutOfRangeError:
            self.membership = None  # whoever sends garbage gets one answer, not an oracle
            raise
        sealed = seal(me.seal, message.step, sums.astype("<f4").tobytes())
        info: dict[str, Any] = {}
        if me.closed == me.plan.blocks:
            self.membership = None  # and with it the secret key
            info = {"seal": me.seal.hex(), "counts": me.counts()}
        return self._answer(
            info=info, tensors={"sums": as_tensor([sealed])}, context=me.context.fingerprint
        )

    def _drop(self, message: Message) -> Answer:
        """Forget the ring and its key."""
        self._from_coordinator(message)
        if message.ring == self._joined:
            self._joined = ""
        if self.membership is not None and message.ring == self.membership.ring:
            self.membership = None
        return Answer({}, {})

    # ------------------------------------------------------------------ checks and answers

    def _member(self, message: Message) -> Membership:
        me = self.membership
        if me is None or (me.ring, me.round) != (message.ring, message.round):
            current = None if me is None else (me.ring, me.round)
            raise MessageError(
                f"A message for (ring, round) {(message.ring, message.round)} reached site "
                f"{self.site.name!r}, which is in {current}."
            )
        if message.context != me.context.fingerprint:
            raise MessageError(
                f"A message for ring {me.ring!r} has the context {message.context!r}, but the "
                f"ring's is {me.context.fingerprint}: it belongs to another key."
            )
        return me

    def _from_coordinator(self, message: Message) -> None:
        self._expect(message, sender=COORDINATOR)

    def _expect(self, message: Message, *, sender: str) -> None:
        if (message.sender, message.recipient) != (sender, self.site.name):
            raise MessageError(
                f"A message from {message.sender!r} to {message.recipient!r} reached site "
                f"{self.site.name!r}, where one from {sender!r} was due."
            )

    def _answer(
        self,
        pieces: Sequence[bytes] = (),
        *,
        info: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        recipient: str = COORDINATOR,
        context: str,
    ) -> Answer:
        said = dict(info or {})
        carried = dict(tensors or {})
        if pieces:
            carried["block"] = as_tensor(pieces)
        # of one width, so that equal runs send equally many bytes
        said["seconds"] = {part: f"{s:013.6f}" for part, s in self._watch.seconds.items()}
        self._watch.seconds = {}
        return Answer(said, carried, recipient, context)


def _field(message: Message, name: str, kind: type[T]) -> T:
    value = message.info.get(name)
    if not isinstance(value, kind):
        raise MessageError(f"A message says {name} = {value!r}, which is no {kind.__name__}.")
    return value
