"""Sites that do what they are told: the controls, which show that an attack would work."""

from typing import Any

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.byte_tensors import as_bytes
from lightning_fl.aggregation.ring.history import RingHistory
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.member_state import MemberState
from lightning_fl.site.site import Site
from lightning_fl.training.fitting import evaluate
from lightning_fl.wire.messages import Message
from lightning_fl.wire.operations import Answer, SiteOperation


class TrustingSite(Site):
    """A site that takes any weights and scores them as often as asked."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._operations |= {"load": self._obey, "evaluate": self._score}

    def _obey(self, message: Message) -> Answer:
        self.state.store.save_weights(message.round, message.tensors["weights"])
        return Answer({}, {})

    def _score(self, message: Message) -> Answer:
        module, loader = self.state.module(message.round), self.state.data.loader("val")
        scores = evaluate(module, loader, "val", self.setup.trainer)
        return Answer({"val": self.disclosure.scores(scores, 1)}, {})


class UnboundRing(CyclicCKKS):
    """A ring whose keys say nothing of the weights that updates were trained from."""

    def site_operations(self, site: HoldsUpdate) -> dict[str, SiteOperation]:
        """Return the ring's operations."""
        return dict(RingMember(self.settings, _AnyOrigin(site), self.noise).operations())


class ForgetfulRing(CyclicCKKS):
    """A ring whose sites remember no earlier ring of a round."""

    def site_operations(self, site: HoldsUpdate) -> dict[str, SiteOperation]:
        """Return the ring's operations."""
        return dict(_ForgetfulMember(self.settings, site, self.noise).operations())


class UntaggedRing(CyclicCKKS):
    """Take a block from whoever has the public key, at every site of the ring."""

    def site_operations(self, site: HoldsUpdate) -> dict[str, SiteOperation]:
        """Return the ring's operations."""
        return dict(_CredulousMember(self.settings, site, self.noise).operations())


class _CredulousMember(RingMember):
    def _sent(self, state: MemberState, message: Message) -> memoryview:
        return as_bytes(message.tensors.get("block"))


class _AnyOrigin:
    """A site's update as if all were trained from the same weights."""

    def __init__(self, site: HoldsUpdate) -> None:
        self._site = site

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)

    def origin(self, round_: int) -> str:
        """Return one digest for all."""
        return ""


class _ForgetfulMember(RingMember):
    def _of_run(self, run: str) -> RingHistory:
        return _NoHistory(None, run)


class _NoHistory(RingHistory):
    def check(self, *arguments: Any) -> None:
        """Take part in every ring."""

    def join(self, *arguments: Any) -> None:
        """Remember nothing."""

    def open(self, *arguments: Any) -> None:
        """Remember nothing."""
