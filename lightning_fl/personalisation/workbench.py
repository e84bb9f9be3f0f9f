"""What a candidate may use at one site: the start model and some training patients."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytorch_lightning as pl

from lightning_fl.algorithms import FedAvg
from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.batch_norm import (
    BatchNormPolicy,
    batch_norm_modules,
    reestimate_batch_norm,
)
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import CountGradients, TrainerOptions, fit
from lightning_fl.training.layout import State
from lightning_fl.training.progress import Progress


@dataclass(frozen=True)
class LocalTask:
    """Hold one site's data, and the settings of the run that decide how it is fitted and scored.

    The template is the task's module with the run's first weights; it is copied, never changed. The
    data are bound to the site.
    """

    name: str
    template: pl.LightningModule
    data: FederatedDataModule
    trainer: TrainerOptions
    evaluation: Evaluation
    batch_norm: BatchNormPolicy
    seed: int


class Workbench:
    """Fit models on some training patients of a site and count the gradients.

    A candidate gets nothing else, so it never sees validation or test patients. It copies the start
    model and never changes it. `start_name` is the name of the start model's variant.

    Attributes:
        task: of the site, whose data measure nothing but these patients.
        gradients: forward-backward passes made here so far.
        finetuned: models after plain fine-tuning of all weights, by number of steps.
    """

    def __init__(
        self,
        task: LocalTask,
        start: pl.LightningModule,
        patients: Sequence[str],
        start_name: str = "none",
    ) -> None:
        self.task = replace(task, data=task.data.for_patients(patients))
        self.start_name = start_name
        self.start = start
        self.patients = tuple(patients)
        self.gradients = 0
        self.finetuned: dict[int, pl.LightningModule] = {}

    def fit(
        self, module: pl.LightningModule, steps: int, purpose: str, callbacks: Sequence[pl.Callback]
    ) -> None:
        """Train a copy of a model in place with plain steps of the task's optimiser.

        The purpose, the run's seed and the site's name decide everything random. BatchNorm is
        treated as the run does.
        """
        task = self.task
        seed_all(derive_seed(task.seed, task.name, purpose))
        plain = FederatedCallback(FedAvg(batch_norm=task.batch_norm))
        loader = task.data.train_loader(
            seed=derive_seed(task.seed, task.name, 0, purpose), patients=self.patients
        )
        count = CountGradients()
        fit(module, loader, [plain, *callbacks, count], task.trainer.for_steps(steps), Progress())
        self.gradients += count.gradients

    def with_state(self, state: State) -> pl.LightningModule:
        """Copy the start model and give the copy other weights."""
        module = copy.deepcopy(self.start)
        module.load_state_dict(state)
        return module

    def with_averaged(self, state: State) -> pl.LightningModule:
        """Copy the start model with averaged weights, and re-estimate the copy's BatchNorm.

        The statistics of a mean of weights are not the mean of statistics. A run that freezes
        BatchNorm holds its statistics.
        """
        module = self.with_state(state)
        return module if self.task.batch_norm == "freeze" else self.with_own_batch_norm(module)

    def with_own_batch_norm(self, module: pl.LightningModule) -> pl.LightningModule:
        """Copy a model and re-estimate BatchNorm on the patients; without any, return the model."""
        if not batch_norm_modules(module):
            return module
        module, task = copy.deepcopy(module), self.task
        seed = derive_seed(task.seed, task.name, "batch norm")
        loader = task.data.train_loader(seed=seed, augment=False, patients=self.patients)
        reestimate_batch_norm(module, loader, task.trainer)
        return module
