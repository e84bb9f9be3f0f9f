"""What personalisation uses of one site."""

from dataclasses import dataclass

import pytorch_lightning as pl

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.training.batch_norm import BatchNormPolicy
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions


@dataclass(frozen=True)
class LocalTask:
    """One site's data, and the settings of the run that decide how it is fitted and scored.

    Attributes:
        name: of the site.
        template: the task's module with the run's first weights; copied, never changed.
        data: bound to the site.
        trainer: how to train.
        evaluation: how to score.
        batch_norm: what happens to BatchNorm layers in this run.
        seed: of the run.
    """

    name: str
    template: pl.LightningModule
    data: FederatedDataModule
    trainer: TrainerOptions
    evaluation: Evaluation
    batch_norm: BatchNormPolicy
    seed: int
