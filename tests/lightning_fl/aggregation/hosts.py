"""Sites without a network or data: an update in memory behind a real site's boundary of bytes."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fl.aggregation import Aggregate, Aggregator, Updates
from lightning_fl.aggregation.ring.byte_tensors import as_bytes, unseal
from lightning_fl.aggregation.ring.masks import block_tag
from lightning_fl.aggregation.ring.shares import join_shares
from lightning_fl.engines.local import LocalTransport, ask
from lightning_fl.errors import SiteError
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import COORDINATOR, HEAD, MAGIC, Message
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.operations import handle_message
from lightning_fl.wire.records import CostRow, TranscriptRow
from lightning_fl.wire.transport import Answering, Outcomes, Reply

RUN = "run"
"""Identifier of every test's run, unless told otherwise."""
ROUND = 12
"""A round in which a ring of A, B and C, or of A and B, goes round in this order."""


def layout_of(*sizes: int) -> Layout:
    """A layout of flat tensors w0, w1, ... of these sizes."""
    return Layout(tuple((f"w{i}", (size,)) for i, size in enumerate(sizes)), ())


def with_digest(body: bytes) -> bytes:
    """A message's body under a head that fits it, as somebody who alters messages would send it."""
    return MAGIC + len(body).to_bytes(8, "little") + hashlib.sha256(body).digest() + body


def body_of(payload: bytes) -> bytes:
    """What `with_digest` puts a head before."""
    return payload[HEAD:]


def altered(payload: bytes, **fields: Any) -> bytes:
    """An encoded message with other fields, e.g. round or sender, encoded again."""
    return replace(Message.decode(payload), payload=None, **fields).encode()


class Host:
    """A site that holds an update; answers an aggregator's operations as `Site.handle` does.

    Args:
        name: of the site.
        aggregator: of the run; its `site_operations` are what the host answers.
        update: shape (layout.length,); `train` gives it another one.
        samples: training samples.
        layout: of the update; one tensor unless given.
        run: messages of another run are refused.
        round_: the round whose update it is.
    """

    def __init__(
        self,
        name: str,
        aggregator: Aggregator,
        update: Tensor,
        *,
        samples: int = 1,
        layout: Layout | None = None,
        run: str = RUN,
        round_: int = 1,
    ) -> None:
        self.name = name
        self.layout = layout or layout_of(len(update))
        self.run = run
        self.carries: dict[int, Tensor] = {}
        self.folder: Path | None = None
        self.least_sites = 1
        self.releases: list[float] = []
        self._samples = samples
        self.train(round_, update)
        self.operations = dict(aggregator.site_operations(self))

    def train(self, round_: int, update: Tensor) -> None:
        """Replace the update, as training a round does."""
        self.round, self.vector = round_, update

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """A part of the update; refuses another round than the site's store would."""
        if round_ != self.round:
            raise ValueError(f"The update here are of round {self.round}, not of round {round_}.")
        return self.vector[start:stop]

    def samples(self) -> int:
        return self._samples

    def count_release(self, noise_multiplier: float) -> None:
        """Hear of a release."""
        self.releases.append(noise_multiplier)

    def origin(self, round_: int) -> str:
        """A digest that all hosts have alike."""
        return f"weights before round {round_}"

    def is_drawn(self, site: str, round_: int) -> bool:
        """Whether a site may be in a ring: all may."""
        return True

    def carry(self, round_: int) -> Tensor | None:
        rounds = [known for known in self.carries if known <= round_]
        return self.carries[max(rounds)].clone() if rounds else None

    def save_carry(self, round_: int, carry: Tensor) -> None:
        self.carries[round_] = carry.clone()

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation; the same checks and the same frame as `Site.handle`."""
        return handle_message(self.name, self.run, self.operations, op, payload)


class Exchange(NamedTuple):
    """One request as it reached a site, and what came of it.

    Attributes:
        op: the operation.
        site: who was asked.
        request: the bytes that arrived at the site.
        answer: the bytes that the site gave back; None where it refused.
        error: why it refused.
    """

    op: str
    site: str
    request: bytes
    answer: bytes | None
    error: SiteError | None


OnRequest = Callable[[str, str, bytes], Sequence[bytes]]
"""(op, site, request) to what reaches the site: [] drops it, two entries are two deliveries."""
OnAnswer = Callable[[str, str, bytes], bytes | None]
"""(op, site, answer) to what reaches the coordinator; None drops it."""


class RecordingTransport(LocalTransport):
    """A LocalTransport that remembers every byte and lets a test play the network.

    Args:
        sites: by name.
        on_request: alters, drops, duplicates or replaces what goes to a site. Where it gives
            several payloads, the site gets all of them and the coordinator hears of the first.
        on_answer: alters, drops or replaces what a site gives back.

    Attributes:
        exchanges: every delivery so far, in order. What a callback dropped is not among them.
    """

    def __init__(
        self,
        sites: Mapping[str, Answering],
        on_request: OnRequest | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        super().__init__(sites)
        self.on_request = on_request
        self.on_answer = on_answer
        self.exchanges: list[Exchange] = []

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """As LocalTransport's, without its garbage collection: hosts hold no models."""
        for site, payload in payloads.items():
            yield site, self._deliver(op, site, payload)

    def requests(self, op: str, site: str | None = None) -> list[bytes]:
        """What reached a site (or any site) for an operation, in order."""
        return [e.request for e in self.exchanges if e.op == op and site in (None, e.site)]

    def answers(self, op: str, site: str | None = None) -> list[bytes]:
        """What a site (or any site) gave back for an operation, in order, without refusals."""
        chosen = [e for e in self.exchanges if e.op == op and site in (None, e.site)]
        return [e.answer for e in chosen if e.answer is not None]

    def refusals(self) -> list[str]:
        """The reasons of all refusals, in order."""
        return [e.error.detail for e in self.exchanges if e.error is not None]

    def _deliver(self, op: str, site: str, payload: bytes) -> Reply | SiteError:
        arriving = [payload] if self.on_request is None else self.on_request(op, site, payload)
        replies = [self._recorded(op, site, request) for request in arriving]
        if not replies:
            return SiteError(site, op, "timeout", "the request was dropped by the test")
        first = replies[0]
        if isinstance(first, SiteError) or self.on_answer is None:
            return first
        answer = self.on_answer(op, site, first.payload)
        if answer is None:
            return SiteError(site, op, "timeout", "the answer was dropped by the test")
        return Reply(answer, first.seconds)

    def _recorded(self, op: str, site: str, request: bytes) -> Reply | SiteError:
        reply = ask(site, self._sites[site].handle, op, request)
        answer, error = (None, reply) if isinstance(reply, SiteError) else (reply.payload, None)
        self.exchanges.append(Exchange(op, site, request, answer, error))
        return reply


def make_hosts(
    aggregator: Aggregator | Mapping[str, Aggregator],
    updates: Mapping[str, Tensor] | Sequence[Tensor],
    *,
    samples: Mapping[str, int] | Sequence[int] | None = None,
    layout: Layout | None = None,
    run: str = RUN,
    round_: int = 1,
) -> dict[str, Host]:
    """One host for each update.

    Args:
        aggregator: of the run, or one for each site.
        updates: by site; a sequence is named A, B, C, ...
        samples: by site or in the same order; 1 each unless given.
        layout: of an update.
        run: identifier of the run.
        round_: of the updates.
    """
    if not isinstance(updates, Mapping):
        updates = {name_of(i): update for i, update in enumerate(updates)}
    if samples is None:
        samples = [1] * len(updates)
    if not isinstance(samples, Mapping):
        samples = dict(zip(updates, samples, strict=True))
    return {
        name: Host(
            name,
            aggregator if isinstance(aggregator, Aggregator) else aggregator[name],
            update,
            samples=samples[name],
            layout=layout,
            run=run,
            round_=round_,
        )
        for name, update in updates.items()
    }


def name_of(index: int) -> str:
    """A, B, ..., Z, then S26, S27, ..."""
    return chr(ord("A") + index) if index < 26 else f"S{index}"


def random_updates(sites: int, length: int, *, largest: float = 1.0, seed: int = 0) -> list[Tensor]:
    """Uniform updates in [-largest, largest], shape (length,) each."""
    generator = torch.Generator().manual_seed(seed)
    return [largest * (2 * torch.rand(length, generator=generator) - 1) for _ in range(sites)]


@dataclass
class Hosts:
    """Hosts, the network between them and the coordinator, and what the channel wrote down.

    Attributes:
        aggregator: the coordinator's half.
        hosts: by name.
        transport: set its `on_request` and `on_answer` to play the network.
        channel: over `transport`.
        costs: rows of costs.csv.
        transcript: rows of transcript.csv.
    """

    aggregator: Aggregator
    hosts: dict[str, Host]
    transport: RecordingTransport
    channel: Channel
    costs: list[CostRow] = field(default_factory=list)
    transcript: list[TranscriptRow] = field(default_factory=list)

    def mean(self, *, min_sites: int = 1, memory: Mapping[str, object] | None = None) -> Aggregate:
        """The aggregator's mean of the hosts' updates, of the round that they are of."""
        [round_] = {host.round for host in self.hosts.values()}
        [layout] = {host.layout for host in self.hosts.values()}
        hides = self.aggregator.hides_samples
        samples = {name: 0 if hides else host.samples() for name, host in self.hosts.items()}
        updates = Updates(round_, samples, layout, min_sites, dict(memory or {}))
        return self.aggregator.mean(self.channel, updates)


def join_hosts(aggregator: Aggregator, hosts: Mapping[str, Host], *, run: str = RUN) -> Hosts:
    """The hosts with a recording transport and a channel in between."""
    costs: list[CostRow] = []
    transcript: list[TranscriptRow] = []
    transport = RecordingTransport(hosts)
    channel = Channel(
        transport,
        run=run,
        timeout=60.0,
        on_cost=costs.append,
        on_message=transcript.append,
        monitor=Monitor(),
    )
    return Hosts(aggregator, dict(hosts), transport, channel, costs, transcript)


class RingByHand:
    """A ring whose messages a test makes, alters and delivers itself, one at a time.

    Args:
        hosts: by name.
        order: the sites, the initiator first.
        ring: its identifier.
        round_: of the run.
        info: what every site is told as it joins, besides the order.

    Attributes:
        context: fingerprint of the ring's context, once it is open.
        members: what the sites said when they joined.
        public_key: the tensors of the initiator's answer.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        order: Sequence[str],
        *,
        ring: str = "ring-1",
        round_: int = ROUND,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.hosts = hosts
        self.order = list(order)
        self.ring = ring
        self.round = round_
        self.info: dict[str, Any] = {
            "order": self.order,
            "largest": 1,
            "exponents": None,
            "share": 1.0,
            **(info or {}),
        }
        self.context = ""
        self.members: dict[str, Any] = {}
        self.public_key: dict[str, Tensor] = {}

    def ask(self, op: str, site: str, payload: bytes) -> Message:
        """Deliver bytes to a site; its answer, or what it raises."""
        return Message.decode(self.hosts[site].handle(op, payload))

    def message(self, site: str, **fields: Any) -> bytes:
        """A message of the coordinator to a site of this ring."""
        frame: dict[str, Any] = {
            "run": self.hosts[site].run,
            "round": self.round,
            "sender": COORDINATOR,
            "recipient": site,
            "ring": self.ring,
            "context": self.context,
        }
        return Message(**(frame | fields)).encode()

    def join(self) -> "RingByHand":
        """All sites join."""
        for site in self.order:
            self.members[site] = self.ask("ring_join", site, self.joining(site)).info
        return self

    def joining(self, site: str, **terms: Any) -> bytes:
        """The message that asks a site to join, with other terms than it should have."""
        return self.message(site, info=self.info | terms)

    def opening(self, site: str, **fields: Any) -> bytes:
        """The message that opens the ring at its initiator or starts it at another site."""
        info = {"members": self.members}
        return self.message(site, info=info, tensors=self.public_key, **fields)

    def open(self) -> "RingByHand":
        """The initiator makes the key."""
        first = self.order[0]
        opened = self.ask("ring_open", first, self.opening(first))
        self.context, self.public_key = opened.context, dict(opened.tensors)
        return self

    def start(self) -> "RingByHand":
        """The others make ready."""
        for site in self.order[1:]:
            self.ask("ring_start", site, self.opening(site))
        return self

    def begin(self) -> "RingByHand":
        """All of the above."""
        return self.join().open().start()

    def key(self, closed: Message) -> bytes:
        """The key to the sums, from the others' shares, for which the last answer is needed."""
        shares = {}
        for place, site in enumerate(self.order[1:]):
            sealed, _ = closed.info["shares"][site]
            answer = self.ask("ring_reveal", site, self.message(site, info={"share": sealed}))
            shares[place] = bytes.fromhex(answer.info["share"])
        return join_shares(shares)

    def sums(self, closed: Message) -> Tensor:
        """The sums of a ring of one block, from the initiator's last answer."""
        return unseal(self.key(closed), 0, closed.tensors["sums"])

    def tagged(self, payload: bytes) -> bytes:
        """A block with the tag that its sender, were it to lie, would give it."""
        message = Message.decode(payload)
        member: Any = self.hosts[message.recipient].operations["ring_pass"]
        key = member.__self__.state.keys[message.sender]
        tag = block_tag(key, message.sender, message.step, as_bytes(message.tensors["block"]))
        return altered(payload, info=message.info | {"tag": tag})

    def due(self, place: int, block: int = 0) -> bytes:
        """What is due at a place of the order, with the sites before it asked for it in turn.

        Place len(order) is the initiator again, where the finished block is due to be closed.
        """
        payload = self.message(self.order[0], step=block)
        for site in self.order[:place]:
            payload = self.hosts[site].handle("ring_pass", payload)
        return payload
