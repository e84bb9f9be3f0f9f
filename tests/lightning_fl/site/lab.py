"""Toy hospitals with pinned identities, and a coordinator whose every step a test decides."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.coordinator.averaging import Averaging
from lightning_fl.coordinator.broadcast import Broadcast
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.site.site import Site
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import COORDINATOR, Message
from lightning_fl.wire.monitor import Monitor
from tests.lightning_fl.aggregation.hosts import RecordingTransport
from tests.toy import ToyHospitals, toy_experiment, toy_run

SITES = ("A", "B", "C", "D")


def ignore(row: Any) -> None:
    """Hear of a row and do nothing."""


class Lab:
    """Four sites and the parts of a coordinator.

    Args:
        folder: of the run and of the identities.
        settings: of the experiment.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        pins = {site: self._pin(site) for site in SITES}
        settings.setdefault("aggregator", CyclicCKKS(pins=pins, identities=str(folder)))
        defaults = {"data": ToyHospitals(dict.fromkeys(SITES, 6)), "rounds": 4}
        self.run = toy_run(folder / "run", toy_experiment(**(defaults | settings)))
        blueprint = self.run.blueprint
        self.state = blueprint.first_state(self.run.run_id)
        self.sites: dict[str, Site] = {}
        self.restart()
        self.averaging = Averaging(
            blueprint.plan,
            blueprint.layout,
            blueprint.algorithm,
            blueprint.aggregator,
            PrivacyAccount(),
        )

    def _pin(self, site: str) -> str:
        return make(self.folder / f"{site}{SUFFIX}")

    def restart(self) -> None:
        """Start every site's process and the coordinator's channel anew."""
        self.sites = {site: self.run.make_site(site) for site in SITES}
        self.channel = Channel(
            RecordingTransport(self.sites),
            run=self.run.run_id,
            timeout=60.0,
            on_cost=ignore,
            on_message=ignore,
            monitor=Monitor(),
        )
        self.broadcast = Broadcast(self.channel)

    def ask(self, site: str, op: str, round_: int, **fields: Any) -> Message:
        """Ask a site; its answer, or what it raises."""
        fields = {"run": self.run.run_id, "sender": COORDINATOR} | fields
        return Message.decode(self.sites[site].handle(op, Message(round=round_, **fields).encode()))

    def load(self, site: str, round_: int, weights: Tensor, **info: Any) -> Message:
        """Send weights to a site, as a coordinator that may lie."""
        facts = {"blocks": 1, "server": [], "memory": "", **info}
        return self.ask(site, "load", round_, info=facts, tensors={"weights": weights})

    def apply(self, site: str, round_: int, mean: Tensor, **info: Any) -> Message:
        """Send a mean to a site, as a coordinator that may lie."""
        return self.ask(site, "apply", round_, info={"blocks": 1, **info}, tensors={"mean": mean})

    def begin(self) -> "Lab":
        """Give all sites the first weights."""
        self.broadcast.load(self.state, dict.fromkeys(SITES, 0))
        return self

    def train(self) -> tuple[Tensor, dict[str, Any]]:
        """Let all sites train the coming round and make their mean.

        Returns:
            The mean, and what sites are told of it.
        """
        round_ = self.state.round + 1
        samples = {
            site: self.ask(site, "train", round_).info["samples"]
            for site in self.run.blueprint.plan.chosen(round_)
        }
        lost = self.averaging.ask(self.channel, self.state, samples)
        assert not lost
        assert self.state.mean is not None
        assert self.state.outcome is not None
        return self.state.mean, self.state.outcome

    def advance(self) -> Tensor:
        """Give all sites the mean; the weights that they have then."""
        mean, outcome = self.state.mean, self.state.outcome or {}
        self.averaging.apply(self.state)
        self.broadcast.apply(self.state, mean, outcome, SITES)
        assert not self.state.dropped, self.state.dropped
        return self.state.weights

    def rounds(self, count: int) -> "Lab":
        """Begin and do whole rounds."""
        self.begin()
        for _ in range(count):
            self.train()
            self.advance()
        return self

    def imprint(self) -> Tensor:
        """Weights that no round of this run has: those of an attacker."""
        return torch.full_like(self.state.weights, 7.0)
