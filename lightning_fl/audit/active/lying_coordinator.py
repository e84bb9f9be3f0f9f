"""A coordinator that lies: each attack from outside has, and the messages it sends."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.identity import SUFFIX, make
from lightning_fl.aggregation.ring.ring import Ring, RingBroken, Sums
from lightning_fl.aggregation.ring.ring_plan import ring_order
from lightning_fl.algorithms import FedAvg
from lightning_fl.audit.active.forged_ring import ForgedRing
from lightning_fl.audit.active.imprint import (
    SCORE,
    ImprintTask,
    dead,
    imprinting,
    pixel_reading,
    read_bins,
    read_single,
)
from lightning_fl.data.module import FederatedDataModule, PatientSplit
from lightning_fl.engines.local import LocalTransport
from lightning_fl.errors import SiteError
from lightning_fl.personalisation import Personalisation
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.site import Site
from lightning_fl.site.terms import SiteTerms
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.layout import to_vector
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message
from lightning_fl.wire.monitor import Monitor

ROUNDS = 2
"""Of the run that is attacked."""


class Refused(Exception):  # noqa: N818  an event, not a mistake
    """Tell that a site did not do what it was asked for."""


@dataclass
class LyingCoordinator:
    """Attacks hospitals by what it sends them alone.

    Attributes:
        images: of the hospitals that train, shape (hospitals, images, pixels), from 0 to 1.
        folder: of the hospitals, to be deleted by the caller.
        bits: of the ring.
        site: class of the sites; another one leaves a defence out.
        ring: class of the ring; another one leaves a defence out.
        seed: of the first weights and of the sites' training.
    """

    images: Tensor
    folder: Path
    bits: int = 24
    site: type[Site] = Site
    ring: type[CyclicCKKS] = CyclicCKKS
    seed: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.images.shape[2]

    @property
    def bins(self) -> int:
        """Rows of the layer: so many that few images share one."""
        return 8 * self.images.shape[0] * self.images.shape[1]

    @cached_property
    def names(self) -> list[str]:
        """Names of the hospitals."""
        return [f"S{number}" for number in range(1, len(self.images) + 1)]

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The hospitals, each with an identity that all have pinned."""
        pins = {name: make(self.folder / f"{name}{SUFFIX}") for name in self.names}
        ring = self.ring(bits=self.bits, weights="equal", pins=pins, identities=str(self.folder))
        torch.manual_seed(self.seed)
        task = ImprintTask(self.pixels, self.bins)
        setup = SiteSetup(
            task,
            FedAvg().layout(task),
            FedAvg(),
            ring,
            TrainerOptions(local_steps=1, accelerator="cpu"),
            Evaluation(SCORE),
            Personalisation(),
            run=secrets.token_hex(8),
            seed=self.seed,
            rounds=ROUNDS,
            terms=SiteTerms(verified=True, least_sites=3, decimals=3),
        )
        data = _Images(dict(zip(self.names, self.images, strict=True)))
        return {
            name: self.site(name, setup, data.for_site(name, self.seed), self.folder / name)
            for name in self.names
        }

    @property
    def setup(self) -> SiteSetup:
        """What all hospitals share."""
        return next(iter(self.sites.values())).setup

    @cached_property
    def channel(self) -> Channel:
        """The way to the hospitals."""
        return Channel(
            LocalTransport(self.sites),
            run=self.setup.run,
            timeout=600.0,
            on_cost=_forget,
            on_message=_forget,
            monitor=Monitor(),
        )

    @cached_property
    def first(self) -> Tensor:
        """The weights that the settings give."""
        return to_vector(self.setup.template.state_dict(), self.setup.layout)

    # ------------------------------------------------------------------ attacks

    def other_weights(self) -> list[Tensor]:
        """Imprint the images of the first hospital, and give the others dead weights."""
        victim, *others = self.names
        self._load(victim, imprinting(self.pixels, self._thresholds()))
        for name in others:
            self._load(name, dead(self.pixels, self.bins))
        return read_bins(self._sum(self.names), self.pixels)

    def equal_weights(self) -> list[Tensor]:
        """Imprint the images of all hospitals by weights that are the same for all."""
        for name in self.names:
            self._load(name, imprinting(self.pixels, self._thresholds()))
        return read_bins(self._sum(self.names), self.pixels)

    def questions(self) -> list[Tensor]:
        """Ask the first hospital to score weights, one pixel a question."""
        victim, values = self.names[0], []
        for pixel in range(self.pixels):
            self._load(victim, pixel_reading(self.pixels, self.bins, pixel))
            answer = self._ask("evaluate", victim, 0)
            values.append(float(answer.info["val"].get(SCORE, float("nan"))))
        return [torch.tensor(values)]

    def second_ring(self) -> list[Tensor]:
        """Sum over all hospitals, then over all but the first, and take the difference."""
        _, *others = self.names
        for name in self.names:
            self._load(name, self.first)
        difference = self._sum(self.names) - self._sum(others)
        return read_single(difference, self.pixels)

    def forged_sum(self) -> list[Tensor]:
        """Encrypt a sum that leads to imprinting weights, and let the initiator sign its mean."""
        for name in self.names:
            self._load(name, self.first)
        mean = imprinting(self.pixels, self._thresholds()) - self.first
        sums = self._ring(self.names, 1, mean)
        ring = cast("CyclicCKKS", self.setup.aggregator)
        signed = ring.settings.mean(sums.values, sums.counts, 1)
        info = {"blocks": 1, "share": 1.0, "proof": sums.proof}
        for name in self.names:
            self._ask("apply", name, 1, info=info, tensors={"mean": signed})
        return read_bins(self._ring(self.names, 2).values, self.pixels)

    # ------------------------------------------------------------------ messages

    def _thresholds(self) -> Tensor:
        brightness = self.images.mean(2)
        return torch.linspace(float(brightness.min()) - 0.01, float(brightness.max()), self.bins)

    def _load(self, site: str, weights: Tensor) -> None:
        info = {"blocks": 1, "server": [], "memory": ""}
        self._ask("load", site, 0, info=info, tensors={"weights": weights})

    def _sum(self, sites: Sequence[str]) -> Tensor:
        """Let sites train the first round, and sum their updates in a ring."""
        return self._ring(sites, 1).values

    def _ring(self, sites: Sequence[str], round_: int, mean: Tensor | None = None) -> Sums:
        """Let sites train a round, and ask for a ring; with a mean, for one that gives it."""
        for name in sites:
            self._ask("train", name, round_)
        order = ring_order(sites, round_)
        ring = cast("CyclicCKKS", self.setup.aggregator)
        plan = ring.settings.plan(len(order), self.setup.layout, None)
        terms = {"largest": 1, "exponents": None, "share": 1.0}
        ring_of = Ring if mean is None else partial(ForgedRing, mean=mean)
        try:
            return ring_of(self.channel, round_, order, plan, terms).run()
        except RingBroken as broken:
            raise Refused(str(broken) or "an earlier ring of the round forbids it") from broken

    def _ask(self, op: str, site: str, round_: int, **fields: Any) -> Message:
        answer = self.channel.ask(op, {site: self.channel.message(round_, **fields)})[site]
        if isinstance(answer, SiteError):
            raise Refused(answer.detail)
        return answer


def _forget(row: object) -> None:
    """Drop a row: costs and transcript are those of the run, not of its audit."""


class _Images(FederatedDataModule):
    """Hospitals with a few images each, the first of which is also there to validate.

    Args:
        images: by hospital, shape (images, pixels).
    """

    def __init__(self, images: Mapping[str, Tensor]) -> None:
        super().__init__(batch_size=max(len(own) for own in images.values()))
        self.images = images

    def site_names(self) -> tuple[str, ...]:
        """Return the names of the hospitals."""
        return tuple(self.images)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return a patient for each image."""
        return tuple(str(number) for number in range(len(self.images[site])))

    def split(self, site: str) -> PatientSplit:
        """Let all patients train, and validate on the first."""
        return PatientSplit(self.patients(site), self.patients(site)[:1], ())

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        """Return the images of some patients."""
        samples = [{"image": self.images[site][int(patient)]} for patient in patients]
        return cast("Dataset[Any]", samples)
