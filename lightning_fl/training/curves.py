"""Record how a site trains in a round: losses, learning rates, gradient norm, speed."""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_fl.errors import ConfigError
from lightning_fl.training.batches import batch_length


class TrainingCurves(pl.Callback):
    """Record one value of each training curve for a round.

    The values are `loss`, the mean of what `training_step` returned; every metric that it logged;
    `lr`, the learning rate of the last step (`lr/1` and so on for further parameter groups);
    `grad_norm`, the mean Euclidean norm of all gradients before clipping; and `samples`, of all
    batches that it got. This callback comes after `FederatedCallback`, so that the norm is that of
    the method's own gradient.

    Attributes:
        values: by name, complete at the end of the fit.
        seconds: from the first batch to the last.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.seconds = 0.0
        self._started = 0.0
        self._samples = 0
        self._rates: dict[str, float] = {}
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._logged: dict[str, float] = {}
        self._batches_of_pass = 0
        self._batches = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples that `training_step` gets."""
        with suppress(ConfigError):  # a batch without tensors counts as none
            self._samples += batch_length(batch)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradient norm and the learning rates of a step."""
        groups = optimizer.param_groups
        gradients = [p.grad for g in groups for p in g["params"] if p.grad is not None]
        self._norms.append(torch.nn.utils.get_total_norm(gradients).detach())
        self._rates = {f"lr/{i}" if i else "lr": float(g["lr"]) for i, g in enumerate(groups)}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the loss of a batch; it stays on its device until the end of the round."""
        self._batches_of_pass += 1
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Lightning has divided it by the batches of an optimiser step.
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take what this pass over the data has logged, weighted by its batches."""
        for name, value in trainer.callback_metrics.items():
            name = re.sub("^train[/_]", "", name)
            self._logged[name] = self._logged.get(name, 0.0) + float(value) * self._batches_of_pass
        self._batches += self._batches_of_pass
        self._batches_of_pass = 0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the values together."""
        means = {"loss": self._losses, "grad_norm": self._norms}
        self.values = {
            **{name: total / self._batches for name, total in self._logged.items()},
            **{name: float(torch.stack(v).mean()) for name, v in means.items() if v},
            **self._rates,
            "samples": float(self._samples),
        }
        self.seconds = time.perf_counter() - self._started
