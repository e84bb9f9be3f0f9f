"""What a candidate may use at one site: the start model and some training patients."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from lightning_fl.algorithms import FedAvg
from lightning_fl.batch_norm import batch_norm_modules
from lightning_fl.fitting import CountGradients, Progress, fit, reestimate_batch_norm
from lightning_fl.seeds import derive_seed, seed_all

if TYPE_CHECKING:
    from lightning_fl.site import Site


class Workbench:
    """Fits models on some training patients of a site and counts the gradients.

    Args:
        site: whose data are used.
        start: the model that is personalised; candidates copy it and never change it.
        patients: the training patients that may be used.
        start_name: of the variant that `start` is.

    Attributes:
        gradients: forward-backward passes made here so far.
        finetuned: by number of steps, what plain fine-tuning of all weights came to.
    """

    def __init__(
        self,
        site: "Site",
        start: pl.LightningModule,
        patients: Sequence[str],
        start_name: str = "none",
    ) -> None:
        self.site = site
        self.start_name = start_name
        self.start = start
        self.patients = tuple(patients)
        self.gradients = 0
        self.finetuned: dict[int, pl.LightningModule] = {}

    @property
    def untrained(self) -> pl.LightningModule:
        """A copy of the model the run began with."""
        return copy.deepcopy(self.site.template)

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether running statistics are held in this run, also while training."""
        return self.site.algorithm.batch_norm == "freeze"

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
        site = self.site
        seed_all(derive_seed(site.seed, site.name, purpose))
        plain = FedAvg(batch_norm=site.algorithm.batch_norm)
        loader = site.data.train_loader(
            seed=derive_seed(site.seed, site.name, 0, purpose), patients=self.patients
        )
        count = CountGradients()
        used = [site.callback(plain), *callbacks, count]
        fit(module, loader, used, site.trainer.for_steps(steps), Progress())
        self.gradients += count.gradients

    def with_own_batch_norm(self, module: pl.LightningModule) -> pl.LightningModule:
        """A copy with BatchNorm re-estimated on the patients; the module itself without any."""
        if not batch_norm_modules(module):
            return module
        module = copy.deepcopy(module)
        seed = derive_seed(self.site.seed, self.site.name, "batch norm")
        loader = self.site.data.train_loader(seed=seed, augment=False, patients=self.patients)
        reestimate_batch_norm(module, loader, self.site.trainer)
        return module

    def with_fitting_batch_norm(self, module: pl.LightningModule) -> pl.LightningModule:
        """For weights that were averaged: the same, unless the run holds BatchNorm frozen."""
        return module if self.freezes_batch_norm else self.with_own_batch_norm(module)
