"""A tiny LightningModule and batches with known answers, shared by tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import Algorithm, FedAvg
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.engines import Local
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.monitor import Monitor
from tests.folders import ROOT


class ToyModule(pl.LightningModule):
    """A small regression net with BatchNorm, trained by plain SGD."""

    def __init__(
        self, *, lr: float = 0.1, batch_norm: bool = False, width: int = 4, momentum: float = 0.0
    ) -> None:
        super().__init__()
        norm: nn.Module = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.net = nn.Sequential(nn.Linear(3, width), norm, nn.Tanh(), nn.Linear(width, 1))
        self.lr = lr
        self.momentum = momentum
        self.seen: list[int] = []

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        self.seen.append(len(batch[0]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


class ByHand(ToyModule):
    """Optimises by hand, with one optimiser or more, and counts its batches."""

    def __init__(self, optimisers: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimisers = optimisers
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.batches += 1
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        made = super().configure_optimizers
        return [made() for _ in range(self.optimisers)]


def toy_data(samples: int = 24, seed: int = 0) -> TensorDataset:
    """Inputs (samples, 3) and targets (samples, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=generator)
    return TensorDataset(x, x.square().sum(1, keepdim=True) + x[:, :1])


def toy_loader(batch_size: int, samples: int = 24, seed: int = 0) -> DataLoader[Any]:
    """Batches in a fixed order."""
    return DataLoader(toy_data(samples, seed), batch_size=batch_size)


def quiet_trainer(**settings: Any) -> pl.Trainer:
    """A Trainer on the CPU that writes nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**(defaults | settings))


ONE_STEP = (
    "--personalisation.candidates",
    '[{"class_path": "lightning_fl.personalisation.FineTune", "init_args": {"steps": [1]}}]',
)
"""Arguments of train.py: the least personalisation there is."""
SMALL_NET = (
    *("--net.init_args.encoder_name", "tu-test_resnet", "--net.init_args.encoder_depth", "2"),
    *("--net.init_args.decoder_channels", "[8, 8]"),
)
"""Arguments of train.py: a Unet of a quarter of quickstart's layers."""

SMALL_DENSENET = (
    *("--net.init_args.init_features", "4", "--net.init_args.growth_rate", "4"),
    *("--net.init_args.block_config", "[1, 1]"),
)
"""Arguments of train.py: few layers in place of the DenseNet of rad_chestct.yaml."""


def small_phantoms(cache: Path) -> list[str]:
    """Arguments of train.py: the fewest and smallest slices of chest phantoms to train on."""
    return [
        *("--data.init_args.size", "32", "--data.init_args.patients", "[3]"),
        *("--data.init_args.slices", "6", "--data.init_args.batch_size", "2"),
        *("--data.init_args.cache_dir", str(cache)),
    ]


def small_quickstart(folder: Path, cache: Path, *more: str) -> list[str]:
    """Arguments of train.py: the smallest federation with quickstart's task, method and ring."""
    return [
        *("--config", str(ROOT / "configs" / "quickstart.yaml"), "--output", str(folder)),
        *("--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"),
        *("--data.init_args.sites", "3", *small_phantoms(cache), *SMALL_NET, *ONE_STEP),
        *("--evaluation.gallery", "1", *more),
    ]


TINY_EXAMPLE = ("--patients", "7", "--size", "32", "--slices", "12")
"""Arguments of make_example: little, but enough for BatchNorm to train on."""
SITES: Mapping[str, int] = {"A": 9, "B": 6, "C": 5}
"""Patients of the toy hospitals; each has three samples."""


class ToyHospitals(FederatedDataModule):
    """Hospitals whose targets differ by a site's own offset."""

    def __init__(self, sites: Mapping[str, int] = SITES, **settings: Any) -> None:
        super().__init__(**({"batch_size": 4} | settings))
        self.sites = dict(sites)

    def site_names(self) -> tuple[str, ...]:
        return tuple(self.sites)

    def patients(self, site: str) -> tuple[str, ...]:
        return tuple(f"{site}{i}" for i in range(self.sites[site]))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        offset = float(ord(site[0]) - ord("A"))
        x, y = toy_data(3 * self.sites[site], seed=ord(site[0])).tensors
        everyone = self.patients(site)
        rows = [3 * everyone.index(p) + i for p in patients for i in range(3)]
        return Subset(TensorDataset(x, y + offset), rows)


class AlikeHospitals(ToyHospitals):
    """Hospitals of three patients, each of whom has the same one sample."""

    def __init__(self, sample: Mapping[str, Tensor], sites: str = "A") -> None:
        super().__init__(dict.fromkeys(sites, 3))
        self.sample = sample

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        samples = [self.sample for _ in patients]  # a list is a dataset to torch
        return cast("Dataset[Any]", samples)


class Listener(Monitor):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.lost: list[tuple[int, str, str]] = []

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        self.rounds.append(round_)

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        self.lost.append((round_, site, reason))


LOSS = Evaluation(metric="loss", lower_is_better=True)


def toy_experiment(**settings: Any) -> Experiment:
    """Three toy hospitals; two rounds of three steps of FedAvg, unless told otherwise."""
    torch.manual_seed(0)
    module = settings.pop("module", None) or ToyModule()
    algorithm: Algorithm = settings.pop("algorithm", None) or FedAvg()
    defaults: dict[str, Any] = {
        "task": module,
        "data": ToyHospitals(),
        "algorithm": algorithm,
        "aggregator": Plain(),
        "engine": Local(),
        "trainer": TrainerOptions(local_steps=3, accelerator="cpu"),
        "evaluation": LOSS,
        "personalisation": Personalisation([FineTune([2, 4], 0.01)]),
        "rounds": 2,
    }
    return Experiment(**(defaults | settings))


class WithoutReport(Run):
    """A run that leaves out its report: drawing one takes longer than training the toy."""

    def start(self) -> dict[str, Any]:
        with patch("lightning_fl.run.run.write_report"):
            return super().start()


class RoundsAlone(WithoutReport):
    """A run of rounds alone, for tests of what training leaves: the rest takes longer.

    No step is rehearsed before the first round; nothing is personalised or tested after the last.
    """

    def start(self) -> dict[str, Any]:
        with (
            patch("lightning_fl.site.site.Site._rehearse"),
            patch("lightning_fl.coordinator.federation.Federation._personalise", return_value={}),
            patch("lightning_fl.run.run.Run._keep_models"),
        ):
            return super().start()


def toy_run(
    folder: Path, experiment: Experiment, monitor: Monitor | None = None, *, report: bool = False
) -> Run:
    """A run in `folder` that has not begun."""
    return _run_in(folder, experiment, monitor, Run if report else WithoutReport)


def rounds_alone(folder: Path, experiment: Experiment) -> Run:
    """A run in `folder` that has not begun and will end after its last round."""
    return _run_in(folder, experiment, None, RoundsAlone)


def _run_in(folder: Path, experiment: Experiment, monitor: Monitor | None, kind: type[Run]) -> Run:
    return kind(experiment, folder, monitor or Monitor())
