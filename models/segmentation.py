"""Segmentation of 2-D images with any network, as a LightningModule."""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError
from models.checks import check_mask_values, check_sizes, checked_logits, try_net
from models.evaluation_mode import evaluation_mode
from models.losses import DiceCrossEntropy
from models.metrics import segmentation_scores
from models.output_bias import start_output_bias
from models.outputs import fine
from models.task import NetTask


class Segmentation(NetTask):
    """Trains and scores a net that maps images (B, C, H, W) to logits (B, classes, H, W).

    Batches are dicts of `image`, float32 (B, C, H, W), and `mask`, int64 (B, H, W). It logs
    "train/loss", "val/loss", "test/loss" and, for validation and test, dice, iou, precision and
    recall, each pooled over all pixels of the split and, with several classes, averaged over the
    foreground classes that occur in the truth or in the prediction. A split where there is nothing
    to find and nothing is found scores 1; any other score without a denominator is 0.

    Args:
        net: any network of segmentation_models_pytorch or MONAI, or another with one output tensor.
        classes: channels of the logits: 1 for foreground against background (sigmoid), or the
            number of classes, background included (softmax).
        loss: called with logits and mask, gives a scalar; null is soft Dice plus cross-entropy
            (models.DiceCrossEntropy).
        optimizer: class of the optimiser with its settings, without its parameters; null is
            torch.optim.Adam with a learning rate of 1e-3.
        lr_scheduler: class of a learning-rate scheduler with its settings, without its optimiser.
        scheduler_interval: whether the scheduler steps after each training step or each epoch.
        foreground_prior: starts the net's output bias so that a pixel begins as foreground with
            about this probability (the random weights before it scatter around that); null leaves
            the net as it is. About 0.1 keeps rare foreground from collapsing to empty masks.
        threshold: probability above which a pixel is foreground, for one class.

    Raises:
        ConfigError: a setting is out of its range, or no output bias is found for the prior.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int = 1,
        loss: nn.Module | None = None,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
        foreground_prior: float | None = None,
        threshold: float = 0.5,
    ) -> None:
        loss = DiceCrossEntropy() if loss is None else loss
        super().__init__(net, classes, loss, optimizer, lr_scheduler, scheduler_interval)
        _check_probabilities(foreground_prior=foreground_prior, threshold=threshold)
        self.threshold = threshold
        self.val_scores = segmentation_scores(max(classes, 2), "val/")
        self.test_scores = segmentation_scores(max(classes, 2), "test/")
        if foreground_prior is not None:
            start_output_bias(net, classes, foreground_prior)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, C, H, W), in float32 or finer."""
        logits = checked_logits(self.net(image), self.classes)
        # Sums of half-precision probabilities over a batch's pixels lose the small classes.
        return fine(logits)

    def training_step(self, batch: Sample, batch_idx: int = 0) -> Tensor:
        """The loss of a batch; its values are checked in the first batch of an epoch only."""
        if batch_idx == 0:
            check_mask_values(batch["mask"], self.classes)
        loss, _ = self._loss_and_logits(batch)
        self.log_loss("train/loss", loss, len(batch["mask"]))
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Add a batch to the scores "val/..."."""
        self._evaluate(batch, "val/loss", self.val_scores)

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        """Add a batch to the scores "test/..."."""
        self._evaluate(batch, "test/loss", self.test_scores)

    def predict_step(self, batch: Sample, batch_idx: int = 0) -> Tensor:
        """The mask of each image, uint8 (B, H, W) with class numbers."""
        return self.predicted_mask(self(batch["image"]))

    def predicted_mask(self, logits: Tensor) -> Tensor:
        """Logits (B, classes, H, W) as a mask, uint8 (B, H, W) with class numbers."""
        if self.classes == 1:
            return (logits[:, 0].sigmoid() > self.threshold).to(torch.uint8)
        return logits.argmax(dim=1).to(torch.uint8)

    def check_batch(self, batch: Sample) -> None:
        """Try a batch without training on it; meant for the start of a run.

        Raises:
            ConfigError: net, images and masks do not fit together.
            DataError: a mask holds a value that is no class.
        """
        check_mask_values(batch["mask"], self.classes)
        with evaluation_mode(self.net):
            try_net(self.net, batch["image"])
            self._loss_and_logits(batch)

    def _loss_and_logits(self, batch: Sample) -> tuple[Tensor, Tensor]:
        logits = self(batch["image"])
        check_sizes(logits, batch["mask"])
        loss: Tensor = self.loss(logits, batch["mask"])
        return loss, logits

    def _evaluate(self, batch: Sample, loss_name: str, scores: MetricCollection) -> None:
        check_mask_values(batch["mask"], self.classes)
        loss, logits = self._loss_and_logits(batch)
        scores.update(self.predicted_mask(logits), batch["mask"])
        self.log_loss(loss_name, loss, len(batch["mask"]))
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(batch["mask"]))


def _check_probabilities(**settings: float | None) -> None:
    """Raise a ConfigError for a setting that is no probability."""
    for name, value in settings.items():
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"Expected `{name}` to lie between 0 and 1, but got {value}.")
