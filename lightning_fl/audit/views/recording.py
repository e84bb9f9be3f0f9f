"""What each party of a round really sees: the round's own bytes, and what the key holder holds."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.member_state import MemberState
from lightning_fl.aggregation.ring.ring_settings import Masking
from lightning_fl.wire.messages import Message
from lightning_fl.wire.operations import SiteOperation
from lightning_fl.wire.transport import Outcomes, Reply, Transport


class RecordedAnswer(NamedTuple):
    """What a site answered, as bytes.

    Attributes:
        op: the operation.
        site: who was asked.
        payload: the answer; None where the site failed.
    """

    op: str
    site: str
    payload: bytes | None


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

    def __init__(self, *, bits: int = 24, masking: Masking = "pairwise") -> None:
        super().__init__(bits=bits, masking=masking, weights="equal", allow_two_sites=True)
        self.members: dict[str, RingMember] = {}

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """Return the ring's operations, as in every run, and keep the site's half."""
        self.members[site.name] = RingMember(self.settings, site)
        return self.members[site.name].operations()


@dataclass
class Recording:
    """Everything of one round, in memory alone: it holds secrets and cannot be pickled.

    A view takes from it what its party has: the coordinator has all answers, a site what reaches it
    and its own entry of `memberships`.

    Attributes:
        answers: all that the coordinator gets or relays, in order.
        memberships: by site, what it held for the ring: its masks, at the initiator the key.
        published: the mean update, which everybody sees; shape (length,).
    """

    answers: list[RecordedAnswer] = field(default_factory=list, repr=False)
    memberships: dict[str, MemberState] = field(default_factory=dict, repr=False)
    published: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere."""
        raise TypeError("A recording holds a ring's secret key and masks; it cannot be pickled.")

    @property
    def order(self) -> tuple[str, ...]:
        """The sites of the ring, the initiator first."""
        return next(iter(self.memberships.values())).ring.order

    def ciphertexts(self, site: str) -> list[list[bytes]]:
        """Return the ciphertexts that a site passed on in the ring, block by block."""
        forms = self.memberships[site].context.forms
        size = forms.seeded.size if site == self.order[0] else forms.ciphertext.size
        blocks = [m.tensors["block"].numpy().tobytes() for m in self._answers("ring_pass", site)]
        return [[block[i : i + size] for i in range(0, len(block), size)] for block in blocks]

    def in_the_clear(self, site: str) -> Tensor:
        """Return the update that a site sent to a coordinator who averages in the clear."""
        return torch.cat([message.tensors["update"] for message in self._answers("update", site)])

    def _answers(self, op: str, site: str) -> list[Message]:
        """Return a site's answers that carry tensors, in the order of their blocks."""
        messages = [
            Message.decode(answer.payload)
            for answer in self.answers
            if (answer.op, answer.site) == (op, site) and answer.payload is not None
        ]
        return sorted((m for m in messages if m.tensors), key=lambda message: message.step)


@dataclass(frozen=True)
class TappedTransport(Transport):
    """Another transport, whose bytes are written down on the way.

    Attributes:
        inner: carries the bytes.
        recording: where they are kept.
        members: of an `OpenRing`, to look at; empty for other aggregators.
    """

    inner: Transport
    recording: Recording
    members: Mapping[str, RingMember]

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Yield what the inner transport yields, and record it."""
        for site, reply in self.inner.outcomes(op, payloads, timeout):
            payload = reply.payload if isinstance(reply, Reply) else None
            self.recording.answers.append(RecordedAnswer(op, site, payload))
            yield site, reply
        for site, member in self.members.items():
            # a site gives its state up when its part is done; here it stays, without the blocks
            if member.state is not None:
                self.recording.memberships[site] = copy.copy(member.state)
                self.recording.memberships[site].ready = {}
