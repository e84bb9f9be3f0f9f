"""What every task around a net has in common: its steps, its optimiser and the loss it logs."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MetricCollection

from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError
from models.checks import ExpectedLogits, checked_logits, try_net
from models.evaluation_mode import evaluation_mode
from models.outputs import OutputMap, fine, output_maps

Batch = Mapping[str, Any]
"""A `Sample` or a `LabelledSample` of several images."""


class NetTask(pl.LightningModule):
    """Trains and scores a net with logits (B, classes, ...).

    Args:
        net: maps images to logits.
        classes: channels of the logits.
        loss: called with logits and truth, gives a scalar.
        scores: called with the prefix of the scores' names.
        sigmoid: whether each channel has a probability of its own; else they add up to 1.
        optimizer: class of the optimiser with its settings, without its parameters; null is
            torch.optim.Adam with a learning rate of 1e-3.
        lr_scheduler: class of a learning-rate scheduler with its settings, without its optimiser.
        scheduler_interval: whether the scheduler steps after each training step or each epoch.

    Raises:
        ConfigError: `classes` is out of its range.
    """

    truth: ClassVar[str]
    """The entry of a batch that holds the truth."""
    expected: ClassVar[ExpectedLogits]
    """The logits that the net must return."""

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        loss: nn.Module,
        scores: Callable[[str], MetricCollection],
        sigmoid: bool,
        *,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
    ) -> None:
        super().__init__()
        if not 1 <= classes <= IGNORE:
            raise ConfigError(
                f"Expected `classes` to be between 1 and {IGNORE}, but got {classes}."
            )
        self.net = net
        self.classes = classes
        self.loss = loss
        self.sigmoid = sigmoid
        # With Adam as the default itself, jsonargparse hands Adam's `weight_decay: 0` to an AdamW.
        self.optimizer = torch.optim.Adam if optimizer is None else optimizer
        self.lr_scheduler = lr_scheduler
        self.scheduler_interval = scheduler_interval
        self.val_scores = scores("val/")
        self.test_scores = scores("test/")

    @abstractmethod
    def scored(self, logits: Tensor) -> Tensor:
        """Turn logits into what the scores compare with the truth."""

    def answers(self, logits: Tensor, batch: Batch) -> Any:
        """Return what the scores compare with the truth of this batch."""
        return self.scored(logits)

    def update_scores(self, scores: MetricCollection, predicted: Any, batch: Batch) -> None:
        """Add a batch to the scores, `predicted` being its `answers`."""
        scores.update(predicted, batch[self.truth])

    @abstractmethod
    def check_truth(self, batch: Batch) -> None:
        """Raise a DataError or ConfigError for a truth that cannot be learnt."""

    def check_logits(self, logits: Tensor, truth: Tensor) -> None:
        """Raise a ConfigError if the logits do not belong to the truth."""

    def output_maps(self) -> tuple[OutputMap, OutputMap]:
        """Return the maps from logits to probabilities and back, both of shape (B, classes, ...).

        An ensemble averages probabilities with them and still gives logits as a net does.
        """
        return output_maps(sigmoid=self.sigmoid)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, classes, ...) of images (B, C, ...), in float32 or finer.

        Sums of half-precision probabilities over a batch's pixels would lose the small classes.
        """
        return fine(checked_logits(self.net(image), self.classes, self.expected))

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the loss of a batch. The truth is checked in the first batch of an epoch only."""
        if batch_idx == 0:
            self.check_truth(batch)
        loss, _ = self._loss_and_logits(batch)
        self._log_loss("train/loss", loss, batch)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Add a batch to the scores "val/...", and return what was compared with its truth."""
        return self._evaluate(batch, "val/loss", self.val_scores)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Add a batch to the scores "test/...", and return what was compared with its truth."""
        return self._evaluate(batch, "test/loss", self.test_scores)

    def check_batch(self, batch: Batch) -> None:
        """Try a batch without training on it; meant for the start of a run."""
        self.check_truth(batch)
        with evaluation_mode(self.net):
            try_net(self.net, batch["image"])
            self._loss_and_logits(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and, if asked for, its scheduler."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ConfigError(
                "`lr_scheduler` is ReduceLROnPlateau, which needs a validation score inside each "
                "fit, but validation happens between them. Use CosineAnnealingLR or OneCycleLR."
            )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def _loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, truth = self(batch["image"]), batch[self.truth]
        self.check_logits(logits, truth)
        return self.loss(logits, truth), logits

    def _evaluate(self, batch: Batch, loss_name: str, scores: MetricCollection) -> Any:
        self.check_truth(batch)
        loss, logits = self._loss_and_logits(batch)
        predicted = self.answers(logits, batch)
        self.update_scores(scores, predicted, batch)
        self._log_loss(loss_name, loss, batch)
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(logits))
        return predicted

    def _log_loss(self, name: str, loss: Tensor, batch: Batch) -> None:
        if self._trainer is None or self._trainer.state.stage is None:
            return  # called outside a fit, e.g. by an attack: there is nowhere to log to
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=len(batch["image"]))
