"""Segmentation of 2-D images with any network, as a LightningModule."""

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lightning_fl.data.cases import CASE
from lightning_fl.errors import ConfigError
from models.checks import SEGMENTATION, check_mask_values, check_sizes
from models.losses import DiceCrossEntropy
from models.metrics import segmentation_scores
from models.net_task import Batch, NetTask
from models.output_bias import start_output_bias


class Segmentation(NetTask):
    """Trains and scores a net that maps images (B, C, H, W) to logits (B, classes, H, W).

    Batches are dicts of `image`, float32 (B, C, H, W), and `mask`, int64 (B, H, W). It logs
    "train/loss", "val/loss", "test/loss" and, for validation and test, dice, iou, precision and
    recall, each the mean over cases, and dice_pooled, the Dice of all pixels of the split together.
    Images with the same number in the batch's `case`, int64 (B,), are one case: the patient.
    Without it each image is a case. With several classes a case's score is the mean over the
    foreground classes that occur in its truth or its prediction. A case where there is nothing to
    find and nothing is found scores 1. Any other score without a denominator is 0.

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

    truth = "mask"
    expected = SEGMENTATION

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
        loss, scores = DiceCrossEntropy() if loss is None else loss, segmentation_scores
        super().__init__(net, classes, loss, scores, optimizer, lr_scheduler, scheduler_interval)
        for name, value in (("foreground_prior", foreground_prior), ("threshold", threshold)):
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"Expected `{name}` to lie between 0 and 1, but got {value}.")
        self.threshold = threshold
        if foreground_prior is not None:
            start_output_bias(net, classes, foreground_prior)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the mask of each image, uint8 (B, H, W) with class numbers."""
        return self.scored(self(batch["image"]))

    def scored(self, logits: Tensor) -> Tensor:
        """Turn logits (B, classes, H, W) into a mask, uint8 (B, H, W) with class numbers."""
        if self.classes == 1:
            return (logits[:, 0].sigmoid() > self.threshold).to(torch.uint8)
        return logits.argmax(dim=1).to(torch.uint8)

    def update_scores(self, scores: MetricCollection, predicted: Tensor, batch: Batch) -> None:
        """Add masks to the scores, which are taken case by case."""
        scores.update(predicted, batch["mask"], batch.get(CASE))

    def check_truth(self, batch: Batch) -> None:
        """Raise a DataError for masks that hold other numbers than classes."""
        check_mask_values(batch["mask"], self.classes)

    def check_logits(self, logits: Tensor, truth: Tensor) -> None:
        """Raise a ConfigError if logits and masks have different sizes."""
        check_sizes(logits, truth)
