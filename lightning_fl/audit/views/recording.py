"""What each party of a round really sees: the run's own bytes, and what the key holder holds."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.base import HoldsUpdate, SiteOperation
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.member_state import MemberState
from lightning_fl.wire.messages import Message
from lightning_fl.wire.transport import Outcomes, Reply, Transport


class Exchange(NamedTuple):
    """One request to a site and its answer, as bytes.

    Attributes:
        op: the operation.
        site: who was asked.
        request: what arrived at the site.
        answer: what the site gave back; None where it failed.
    """

    op: str
    site: str
    request: bytes
    answer: bytes | None


class OpenRing(CyclicCKKS):
    """The ring as it is, whose sites' memory an audit can look into.

    A site that colludes hands its memory over, so this is how colluding sites are played. All
    sites weigh the same, and two sites are allowed, since an audit shows what comes of it.

    Args:
        bits: see `CyclicCKKS`.
        masking: see `CyclicCKKS`.

    Attributes:
        members: the sites' halves of the ring, by site.
    """

    def __init__(
        self, *, bits: int = 24, masking: Literal["pairwise", "initiator", "none"] = "pairwise"
    ) -> None:
        super().__init__(bits=bits, masking=masking, weights="equal", allow_two_sites=True)
        self.members: dict[str, RingMember] = {}

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """The ring's operations, as in every run."""
        self.members[site.name] = RingMember(self.settings, site)
        return self.members[site.name].operations()


@dataclass
class Recording:
    """Everything of one round, in memory alone: it holds secrets and cannot be pickled.

    Which of it a party has is for the view to say: the coordinator has `exchanges`, a site has
    `at(site)` and its own entry of `memberships`.

    Attributes:
        exchanges: all that the coordinator relays, in order.
        memberships: by site, what it held for the ring: its masks, at the initiator the key.
        published: the mean update, which everybody sees; shape (length,).
    """

    exchanges: list[Exchange] = field(default_factory=list, repr=False)
    memberships: dict[str, MemberState] = field(default_factory=dict, repr=False)
    published: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere."""
        raise TypeError("A recording holds a ring's secret key and masks; it cannot be pickled.")

    @property
    def order(self) -> tuple[str, ...]:
        """The sites of the ring, the initiator first."""
        return next(iter(self.memberships.values())).ring.order

    def at(self, site: str) -> list[Exchange]:
        """What crossed the boundary of one site."""
        return [exchange for exchange in self.exchanges if exchange.site == site]

    def answers(self, op: str, site: str) -> list[Message]:
        """A site's answers that carry tensors, in the order of their blocks."""
        found = [
            Message.decode(exchange.answer)
            for exchange in self.at(site)
            if exchange.op == op and exchange.answer is not None
        ]
        return sorted((m for m in found if m.tensors), key=lambda message: message.step)

    def ciphertexts(self, site: str) -> list[bytes]:
        """The blocks that a site passed on in the ring."""
        return [
            bytes(message.tensors["block"].numpy()) for message in self.answers("ring_pass", site)
        ]

    def in_the_clear(self, site: str) -> Tensor:
        """The update that a site sent to a coordinator who averages in the clear."""
        return torch.cat([message.tensors["update"] for message in self.answers("update", site)])


class RecordingTransport(Transport):
    """Another transport, whose bytes are written down on the way.

    Args:
        inner: carries the bytes.
        recording: where they are kept.
        members: of an `OpenRing`, to look at; empty for other aggregators.
    """

    def __init__(
        self, inner: Transport, recording: Recording, members: Mapping[str, RingMember]
    ) -> None:
        self.inner = inner
        self.recording = recording
        self.members = members

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """As the inner one's."""
        for site, reply in self.inner.outcomes(op, payloads, timeout):
            answer = reply.payload if isinstance(reply, Reply) else None
            self.recording.exchanges.append(Exchange(op, site, payloads[site], answer))
            yield site, reply
        for site, member in self.members.items():
            # a site gives its state up when its part is done; here it stays, without the blocks
            if member.state is not None:
                self.recording.memberships[site] = copy.copy(member.state)
                self.recording.memberships[site].ready = {}
