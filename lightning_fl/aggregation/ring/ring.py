"""Relay the blocks of one ring, which the coordinator cannot read."""

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fl.aggregation.ring.byte_tensors import unseal
from lightning_fl.aggregation.ring.ring_plan import AHEAD, RingPlan
from lightning_fl.errors import SiteError
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message, MessageError


class RingBroken(Exception):  # noqa: N818  an event, not a mistake
    """Tell that sites were lost.

    Attributes:
        lost: with the reason.
        opened: whether the initiator may have given out the sums; else nobody has seen any.
    """

    def __init__(self, lost: Mapping[str, SiteError], *, opened: bool = False) -> None:
        super().__init__("; ".join(f"{site}: {error.detail}" for site, error in lost.items()))
        self.lost = dict(lost)
        self.opened = opened


class Sums(NamedTuple):
    """Hold what a ring brings out.

    Attributes:
        values: sums of the sites' weighted updates, shape (length,).
        counts: sums of their counts, by name.
    """

    values: Tensor
    counts: dict[str, int]


@dataclass
class Ring:
    """Ask the sites of one ring, from its key to its sums.

    Attributes:
        channel: to the sites.
        round: of the run.
        order: the sites, the initiator first.
        plan: of the ring.
        instructions: what every site is told when the ring is opened, e.g. the largest weight.
        name: random, since it goes into the masks' keys; a site joins each name once.
        context: fingerprint of the ring's encryption context, once it is open.
    """

    channel: Channel
    round: int
    order: tuple[str, ...]
    plan: RingPlan
    instructions: Mapping[str, Any]
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    context: str = ""

    def run(self) -> Sums:
        """Go round once.

        Raises:
            RingBroken: sites failed, were late or are gone; the ring is dropped.
        """
        try:
            self._open()
            with tempfile.TemporaryFile() as shelf:
                # on disk until all blocks are there: had the initiator a part of a sum whose ring
                # then breaks, the next ring's mean would give it a part of the lost site's update
                finished = []
                for answer in self._blocks():
                    size = shelf.write(answer.encode())
                    finished.append((replace(answer, tensors={}, payload=None), size))
                shelf.seek(0)
                return self._close(replace(m, payload=shelf.read(n)) for m, n in finished)
        except RingBroken as broken:
            gone = [s for s, error in broken.lost.items() if error.kind in ("lost", "timeout")]
            left = [site for site in self.order if site not in gone]
            # these can still hear, and forget the ring and its key
            self.channel.ask("ring_drop", {site: self._message(site) for site in left})
            raise

    def _open(self) -> None:
        self._begin("ring")
        joined = self._ask("ring_join", {site: self._message(site) for site in self.order})
        members = {
            site: {k: v for k, v in answer.info.items() if k != "seconds"}
            for site, answer in joined.items()
        }
        info = {**self.instructions, "order": list(self.order), "members": members}
        first, *others = self.order
        opened = self._ask("ring_open", {first: self._message(first, info=info)})[first]
        self.context = opened.context
        tensors = dict(opened.tensors)
        start = {site: self._message(site, info=info, tensors=tensors) for site in others}
        self._ask("ring_start", start)

    def _blocks(self) -> Iterator[Message]:
        """Yield finished blocks: in wave t the site at place p passes block t - p on.

        An engine with one process a site works on as many blocks at once as there are sites, and
        one that asks the sites in turn needs no threads.
        """
        arriving: dict[int, Message] = {}
        places = len(self.order)
        for wave in range(self.plan.blocks + places - 1):
            messages: dict[str, Message] = {}
            for place, site in enumerate(self.order):
                block = wave - place
                if 0 <= block < self.plan.blocks:
                    due = self._message(site, step=block) if place == 0 else arriving[place]
                    messages[site] = due
                elif -AHEAD <= block < 0 and wave < self.plan.blocks:
                    messages[site] = self._message(site, step=wave, info={"ahead": True})
            answers = self._ask("ring_pass", messages)
            arriving = {
                place + 1: self._checked(answers[site], place)
                for place, site in enumerate(self.order)
                if 0 <= wave - place < self.plan.blocks
            }
            if places in arriving:
                self.channel.monitor.on_part_done()
                yield arriving[places]

    def _checked(self, answer: Message, place: int) -> Message:
        """Return an answer that the site at a place passes to the next one."""
        following = self.order[(place + 1) % len(self.order)]
        if answer.recipient != following:
            detail = f"passed its block to {answer.recipient!r} instead of {following!r}"
            site = self.order[place]
            raise RingBroken({site: SiteError(site, "ring_pass", "failed", detail)})
        return answer

    def _close(self, blocks: Iterator[Message]) -> Sums:
        first = self.order[0]
        sealed: list[Tensor] = []
        self._begin("decrypt")
        for message in blocks:
            answer = self._ask_to_close(first, message)
            self.channel.monitor.on_part_done()
            sealed.append(answer.tensors.get("sums", torch.zeros(0, dtype=torch.uint8)))
        try:
            key = bytes.fromhex(answer.info["seal"])
            counts = {name: _count(answer.info["counts"][name]) for name in self.plan.counts}
            values = torch.cat([unseal(key, step, block) for step, block in enumerate(sealed)])
            if values.numel() != self.plan.length:
                raise MessageError(f"{values.numel()} sums came, not {self.plan.length}")
        except (KeyError, TypeError, ValueError) as error:
            failure = SiteError(first, "ring_close", "failed", f"gave no sums: {error!r}")
            raise RingBroken({first: failure}, opened=True) from error
        return Sums(values, counts)

    def _ask_to_close(self, first: str, message: Message) -> Message:
        try:
            return self._ask("ring_close", {first: message})[first]
        except RingBroken as broken:
            # a site that raised gave nothing out; any other answer may be on its way
            last = message.step == self.plan.blocks - 1
            silent = broken.lost[first].kind not in ("failed", "non_finite")
            raise RingBroken(broken.lost, opened=last and silent) from broken

    def _begin(self, operation: str) -> None:
        self.channel.monitor.on_operation(
            operation=operation, round_=self.round, total=self.plan.blocks, unit="blocks"
        )

    def _message(self, site: str, **fields: object) -> Message:
        return self.channel.message(
            self.round, recipient=site, ring=self.name, context=self.context, **fields
        )

    def _ask(self, op: str, messages: Mapping[str, Message]) -> dict[str, Message]:
        answers: dict[str, Message] = {}
        lost: dict[str, SiteError] = {}
        for site, answer in self.channel.ask(op, messages).items():
            if isinstance(answer, SiteError):
                lost[site] = answer
            elif self.context and answer.context != self.context:
                detail = f"answered in the context {answer.context!r}, not {self.context!r}"
                lost[site] = SiteError(site, op, "garbled", detail)
            else:
                answers[site] = answer
        if lost:
            raise RingBroken(lost)
        return answers


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise MessageError(f"{value!r} is no count")
    return value
