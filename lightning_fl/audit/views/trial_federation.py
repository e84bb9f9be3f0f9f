"""One round of a real federation, in which every site has one sample and all is recorded."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.aggregation import Aggregator, Plain
from lightning_fl.aggregation.base import Updates
from lightning_fl.algorithms import FedAvg
from lightning_fl.audit.views.recording import OpenRing, Recording, TappedTransport
from lightning_fl.data.module import FederatedDataModule, PatientSplit
from lightning_fl.engines import Local
from lightning_fl.personalisation import Personalisation
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.site import Site
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.layout import Layout, to_vector
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import BLOCK_BYTES
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Transport

ROUND = 1

Samples = Mapping[str, dict[str, Tensor]]
"""By site the one sample, e.g. with `image` (C, H, W) and `label`."""


@dataclass(frozen=True)
class TrialFederation:
    """Sites with one sample each that train one round of FedAvg, once, and are averaged often.

    Their updates are files in a folder that is gone in the end; recordings are in memory alone.

    Attributes:
        template: of the task; its weights are the ones that training starts from.
        samples: of the sites.
        folder: of the sites, to be deleted by the caller.
        steps: of each site, all of them on its one sample.
        seed: of the sites' training.
    """

    template: pl.LightningModule
    samples: Samples
    folder: Path
    steps: int
    seed: int

    @cached_property
    def layout(self) -> Layout:
        """The layout of an update."""
        return FedAvg().layout(self.template)

    def train(self) -> None:
        """Send the weights to all sites and let them train, as the round loop does.

        Raises:
            SiteError: a site failed.
        """
        self._run(Plain(), tuple(self.samples), self._train)

    def record(self, aggregator: Aggregator, sites: Sequence[str] = ()) -> Recording:
        """Average the updates of some sites, all by default, and record what is said.

        The view of a site needs an `OpenRing`.

        Raises:
            TooFewSitesError: a site failed.
        """
        chosen = sites or tuple(self.samples)

        def average(channel: Channel) -> Tensor:
            updates = Updates(ROUND, dict.fromkeys(chosen, 1), self.layout, len(chosen))
            return aggregator.mean(channel, updates).mean

        return self._run(aggregator, chosen, average)

    def _run(
        self, aggregator: Aggregator, sites: Sequence[str], act: Callable[[Channel], Tensor]
    ) -> Recording:
        recording = Recording()
        # each recording is of a run of its own: in one run a site has one sum of a round
        run = secrets.token_hex(8)
        members = aggregator.members if isinstance(aggregator, OpenRing) else {}

        def coordinate(transport: Transport) -> None:
            tapped = TappedTransport(transport, recording, members)
            recording.published = act(_channel(tapped, run))

        Local().run(coordinate, lambda name: self._site(name, aggregator, run), sites)
        return recording

    def _train(self, channel: Channel) -> Tensor:
        """Train, and return what everybody knows: the weights to start from."""
        weights = to_vector(self.template.state_dict(), self.layout)
        blocks = torch.split(weights, BLOCK_BYTES // 4)
        for step, block in enumerate(blocks):
            info, tensors = {"blocks": len(blocks)}, {"weights": block.clone()}
            message = channel.message(ROUND - 1, step=step, info=info, tensors=tensors)
            channel.ask_all("load", dict.fromkeys(self.samples, message))
        channel.ask_all("train", dict.fromkeys(self.samples, channel.message(ROUND)))
        return weights

    def _site(self, name: str, aggregator: Aggregator, run: str) -> Site:
        setup = SiteSetup(
            self.template,
            self.layout,
            FedAvg(),
            aggregator,
            TrainerOptions(local_steps=self.steps, accelerator="cpu"),
            Evaluation(),
            Personalisation(),
            run=run,
            seed=self.seed,
            rounds=ROUND,
        )
        data = _OneSampleEach(self.samples).for_site(name, self.seed)
        return Site(name, setup, data, self.folder / name)


def _channel(transport: Transport, run: str) -> Channel:
    def forget(row: object) -> None:
        """Drop a row: costs and transcript are those of the run, not of its audit."""

    return Channel(
        transport, run=run, timeout=600.0, on_cost=forget, on_message=forget, monitor=Monitor()
    )


class _OneSampleEach(FederatedDataModule):
    """Hospitals with one training sample each, and nothing to validate or test on.

    Args:
        samples: by hospital.
    """

    def __init__(self, samples: Samples) -> None:
        super().__init__(batch_size=1)
        self.samples = samples

    def site_names(self) -> tuple[str, ...]:
        """Return the names of the hospitals."""
        return tuple(self.samples)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return the one patient."""
        return (site,)

    def split(self, site: str) -> PatientSplit:
        """Let all patients train."""
        return PatientSplit(self.patients(site), (), ())

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        """Return the one sample, without augmentation; nothing for no patients."""
        # torch's loaders ask no more of a dataset than a list has.
        return cast("Dataset[Any]", [self.samples[patient] for patient in patients])
