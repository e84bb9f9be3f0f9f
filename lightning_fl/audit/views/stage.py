"""One round of a real federation, in which every site has one sample and all is recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.aggregation import Aggregator, Plain
from lightning_fl.aggregation.base import Updates
from lightning_fl.algorithms import FedAvg
from lightning_fl.audit.views.recording import OpenRing, Recording, RecordingTransport
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

RUN = "audit"
"""Identifier of the run, the same for all stages: none of them can hear another."""
ROUND = 1

Samples = Sequence[dict[str, Tensor]]
"""Of each site the one sample, e.g. with `image` (C, H, W) and `label`."""


class Stage:
    """Sites with one sample each that train one round of FedAvg, once, and are averaged often.

    Their updates are files in a folder that is gone in the end; recordings are in memory alone.

    Args:
        template: of the task; its weights are the ones that training starts from.
        samples: one for each site.
        folder: of the sites, to be deleted by the caller.
        steps: of each site, all of them on its one sample.
        seed: of the sites' training.

    Attributes:
        names: of the sites, S1, S2, ...
        layout: of an update.
    """

    def __init__(
        self,
        template: pl.LightningModule,
        samples: Samples,
        folder: Path,
        *,
        steps: int = 1,
        seed: int = 0,
    ) -> None:
        self.template = template
        self.names = tuple(f"S{number + 1}" for number in range(len(samples)))
        self.layout: Layout = FedAvg().layout(template)
        self.steps = steps
        self.seed = seed
        self._data = OneSampleEach(dict(zip(self.names, samples, strict=True)))
        self._folder = folder

    def train(self) -> None:
        """Send the weights to all sites and let them train, as the round loop does.

        Raises:
            SiteError: a site failed.
        """
        self._run(Plain(), self.names, Recording(), self._train)

    def record(self, aggregator: Aggregator, sites: Sequence[str] | None = None) -> Recording:
        """Average the updates of some sites, all by default, and record what is said.

        Args:
            aggregator: an `OpenRing` where the view of a site is wanted.
            sites: some of `names`.

        Raises:
            TooFewSitesError: a site failed.
        """
        recording, chosen = Recording(), tuple(self.names if sites is None else sites)

        def average(channel: Channel) -> None:
            updates = Updates(ROUND, dict.fromkeys(chosen, 1), self.layout, len(chosen))
            recording.published = aggregator.mean(channel, updates).mean

        self._run(aggregator, chosen, recording, average)
        return recording

    def _run(
        self,
        aggregator: Aggregator,
        sites: Sequence[str],
        recording: Recording,
        act: Callable[[Channel], None],
    ) -> None:
        members = aggregator.members if isinstance(aggregator, OpenRing) else {}

        def coordinate(transport: Transport) -> None:
            act(_channel(RecordingTransport(transport, recording, members)))

        Local().run(coordinate, lambda name: self._site(name, aggregator), sites)

    def _train(self, channel: Channel) -> None:
        weights = to_vector(self.template.state_dict(), self.layout)
        blocks = torch.split(weights, BLOCK_BYTES // 4)
        for step, block in enumerate(blocks):
            info, tensors = {"blocks": len(blocks)}, {"weights": block.clone()}
            message = channel.message(ROUND - 1, step=step, info=info, tensors=tensors)
            channel.ask_all("load", dict.fromkeys(self.names, message))
        channel.ask_all("train", dict.fromkeys(self.names, channel.message(ROUND)))

    def _site(self, name: str, aggregator: Aggregator) -> Site:
        setup = SiteSetup(
            self.template,
            self.layout,
            FedAvg(),
            aggregator,
            TrainerOptions(local_steps=self.steps, accelerator="cpu"),
            Evaluation(),
            Personalisation(),
            run=RUN,
            seed=self.seed,
        )
        return Site(name, setup, self._data.for_site(name, self.seed), self._folder / name)


def _channel(transport: Transport) -> Channel:
    def forget(row: object) -> None:
        """Costs and transcript are those of the run, not of its audit."""

    return Channel(
        transport, run=RUN, timeout=600.0, on_cost=forget, on_message=forget, monitor=Monitor()
    )


class OneSampleEach(FederatedDataModule):
    """Hospitals with one training sample each, and nothing to validate or test on.

    Args:
        samples: by hospital.
    """

    def __init__(self, samples: dict[str, dict[str, Tensor]]) -> None:
        super().__init__(batch_size=1)
        self.samples = samples

    def site_names(self) -> tuple[str, ...]:
        """Names of the hospitals."""
        return tuple(self.samples)

    def patients(self, site: str) -> tuple[str, ...]:
        """The one patient."""
        return (site,)

    def split(self, site: str) -> PatientSplit:
        """All train."""
        return PatientSplit(self.patients(site), (), ())

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        """The one sample, without augmentation; nothing for no patients."""
        return _Listed([self.samples[patient] for patient in patients])


class _Listed(Dataset[Any]):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.samples[index]
