"""What a candidate may use at one site: the start model and some training patients."""

import copy
from collections.abc import Sequence

import pytorch_lightning as pl

from lightning_fl.algorithms import FedAvg
from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.personalisation.local_task import LocalTask
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.batch_norm import batch_norm_modules
from lightning_fl.training.fitting import CountGradients, Progress, fit, reestimate_batch_norm


class Workbench:
    """Fits models on some training patients of a site and counts the gradients.

    Args:
        task: of the site.
        start: the model that is personalised; candidates copy it and never change it.
        patients: the training patients that may be used.
        start_name: of the variant that `start` is.

    Attributes:
        gradients: forward-backward passes made here so far.
        finetuned: by number of steps, what plain fine-tuning of all weights came to.
    """

    def __init__(
        self,
        task: LocalTask,
        start: pl.LightningModule,
        patients: Sequence[str],
        start_name: str = "none",
    ) -> None:
        self.task = task
        self.start_name = start_name
        self.start = start
        self.patients = tuple(patients)
        self.gradients = 0
        self.finetuned: dict[int, pl.LightningModule] = {}

    @property
    def untrained(self) -> pl.LightningModule:
        """A copy of the model the run began with."""
        return copy.deepcopy(self.task.template)

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether running statistics are held in this run, also while training."""
        return self.task.batch_norm == "freeze"

    def fit(
        self, module: pl.LightningModule, steps: int, purpose: str, callbacks: Sequence[pl.Callback]
    ) -> None:
        """Train a module in place with plain steps of the task's optimiser.

        Args:
            module: a copy that belongs to the caller.
            steps: of the optimiser.
            purpose: with the run's seed and the site's name it decides everything random.
            callbacks: of this fit, beside the one that treats BatchNorm as the run does.
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

    def with_own_batch_norm(self, module: pl.LightningModule) -> pl.LightningModule:
        """A copy with BatchNorm re-estimated on the patients; the module itself without any."""
        if not batch_norm_modules(module):
            return module
        module = copy.deepcopy(module)
        task = self.task
        seed = derive_seed(task.seed, task.name, "batch norm")
        loader = task.data.train_loader(seed=seed, augment=False, patients=self.patients)
        reestimate_batch_norm(module, loader, task.trainer)
        return module

    def with_fitting_batch_norm(self, module: pl.LightningModule) -> pl.LightningModule:
        """For weights that were averaged: the same, unless the run holds BatchNorm frozen."""
        return module if self.freezes_batch_norm else self.with_own_batch_norm(module)
