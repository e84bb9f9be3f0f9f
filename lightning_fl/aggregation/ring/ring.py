"""Relay the blocks of one ring, which the coordinator cannot read."""

import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fl.aggregation.ring.byte_tensors import seal, unseal
from lightning_fl.aggregation.ring.ring_plan import AHEAD, RingPlan
from lightning_fl.aggregation.ring.shares import SIZE, digest_of_share, join_shares, needed_shares
from lightning_fl.errors import SiteError
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message, MessageError


class RingBroken(Exception):  # noqa: N818  an event, not a mistake
    """Tell that sites were lost.

    Attributes:
        lost: with the reason.
        due: by member the sites of the ring in which it takes part instead, as it says.
    """

    def __init__(
        self, lost: Mapping[str, SiteError], due: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        super().__init__("; ".join(f"{site}: {error.detail}" for site, error in lost.items()))
        self.lost = dict(lost)
        self.due = dict(due or {})


class Sums(NamedTuple):
    """Hold what a ring brings out.

    Attributes:
        values: sums of the sites' weighted updates, shape (length,).
        counts: sums of their counts, by name.
        mean: digest of the mean that the initiator has signed.
        proof: the signature, and what it is about.
    """

    values: Tensor
    counts: dict[str, int]
    mean: str
    proof: dict[str, Any]


@dataclass
class Ring:
    """Ask the sites of one ring, from its key to its sums.

    Attributes:
        channel: to the sites.
        round: of the run.
        order: the sites, the initiator first.
        plan: of the ring.
        instructions: what every site is told when it joins, beside the order; see `AgreedRing`.
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
            self._drop(broken)
            raise

    def _drop(self, broken: RingBroken) -> None:
        """Let the sites that can still hear forget the ring."""
        gone = [s for s, error in broken.lost.items() if error.kind in ("lost", "timeout")]
        left = [site for site in self.order if site not in gone]
        self.channel.ask("ring_drop", {site: self._message(site) for site in left})

    def _open(self) -> None:
        self._begin("ring")
        info = {**self.instructions, "order": list(self.order)}
        joined = self._ask("ring_join", {s: self._message(s, info=info) for s in self.order})
        due = {s: _names(a.info["due"]) for s, a in joined.items() if "due" in a.info}
        if due:
            raise RingBroken({}, due)
        members = {
            site: {k: v for k, v in answer.info.items() if k != "seconds"}
            for site, answer in joined.items()
        }
        info = {"members": members}
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
            answer = self._ask("ring_close", {first: message})[first]
            self.channel.monitor.on_part_done()
            sealed.append(answer.tensors.get("sums", torch.zeros(0, dtype=torch.uint8)))
        key = self._key(answer.info.get("shares"))
        try:
            sealed_facts = bytes.fromhex(answer.info["facts"])
            facts = json.loads(seal(key, self.plan.blocks, sealed_facts))
            counts = {name: _count(facts["counts"][name]) for name in self.plan.counts}
            values = torch.cat([unseal(key, step, block) for step, block in enumerate(sealed)])
            if values.numel() != self.plan.length:
                raise MessageError(f"{values.numel()} sums came, not {self.plan.length}")
            proof = {"signature": facts.get("signature")}
            mean = str(facts["mean"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._no_sums(error) from error
        proof |= {"ring": self.name, "order": [*self.order]}
        return Sums(values, counts, mean, proof)

    def _key(self, shares: Any) -> bytes:
        """Ask the other sites for their shares of the key to the sums; one of them may be lost."""
        others, needed = self.order[1:], needed_shares(len(self.order))
        try:
            requests = {s: self._message(s, info={"share": shares[s][0]}) for s in others}
            digests = [str(shares[site][1]) for site in others]
        except (IndexError, KeyError, TypeError) as error:
            raise self._no_sums(error) from error
        got: dict[int, bytes] = {}
        lost: dict[str, SiteError] = {}
        for site, answer in self.channel.ask("ring_reveal", requests).items():
            place = others.index(site)
            share = b"" if isinstance(answer, SiteError) else _share(answer.info.get("share"))
            if digest_of_share(share) == digests[place]:
                got[place] = share
            elif isinstance(answer, SiteError):
                lost[site] = answer
            else:
                lost[site] = SiteError(site, "ring_reveal", "garbled", "gave a false share")
        if len(got) < needed:
            raise RingBroken(lost)
        return join_shares(dict(list(got.items())[:needed]))

    def _no_sums(self, error: Exception) -> RingBroken:
        """Return that the initiator has given nothing that can be read."""
        first = self.order[0]
        failure = SiteError(first, "ring_close", "failed", f"gave no sums: {error!r}")
        return RingBroken({first: failure})

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


def _names(sites: Any) -> frozenset[str]:
    """Return the sites that a member names; none where it names nothing."""
    listed = isinstance(sites, list) and all(type(site) is str for site in sites)
    return frozenset(sites if listed else ())


def _share(text: Any) -> bytes:
    """Return the share that a site gives; b"" for none."""
    try:
        share = bytes.fromhex(text)
    except (TypeError, ValueError):
        return b""
    return share if len(share) == SIZE else b""


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise MessageError(f"{value!r} is no count")
    return value
