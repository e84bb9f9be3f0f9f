"""Segmentation of 2-D images with any network, as a LightningModule."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lightning_fl.data.cases import CASE, ORIGINAL
from lightning_fl.errors import ConfigError
from lightning_fl.training.largest_component import keep_largest_component
from lightning_fl.training.overlap import Masks
from models.checks import SEGMENTATION, check_mask_values, check_sizes
from models.losses import DiceCrossEntropy
from models.metrics import segmentation_scores
from models.net_task import Batch, NetTask
from models.output_bias import start_output_bias


class Segmentation(NetTask):
    """Trains and scores a net that maps images (B, C, H, W) to logits (B, classes, H, W).

    Batches are dicts of `image`, float32 (B, C, H, W), and `mask`, int64 (B, H, W), or (B, classes,
    H, W) with 0 and 1 for overlapping regions. Pixels of 255 count neither in the loss nor in a
    score. It logs "train/loss", "val/loss", "test/loss" and, for validation and test, dice, iou,
    precision and recall, each the mean over cases, and dice_pooled, the Dice of all pixels of the
    split together. Images with the same number in the batch's `case`, int64 (B,), are one case: the
    patient. Without it each image is a case. Where the batch holds masks as they were before they
    were resized, `original`, images are scored there: logits are resized to each. With several
    classes or regions a case's score is the mean over those of the foreground that occur in its
    truth or its prediction. A case where there is nothing to find and nothing is found scores 1. A
    case of which no pixel counts has no score. Any other score without a denominator is 0.

    Args:
        net: any network of segmentation_models_pytorch or MONAI, or another with one output tensor.
        classes: channels of the logits: 1 for foreground against background (sigmoid), or the
            number of classes, background included (softmax), or the number of regions.
        regions: whether the classes are regions that may overlap, without background (sigmoid).
        loss: called with logits and mask, gives a scalar; null is soft Dice plus cross-entropy
            (models.DiceCrossEntropy).
        foreground_prior: starts the net's output bias so that a pixel begins as foreground with
            about this probability (the random weights before it scatter around that); null leaves
            the net as it is. About 0.1 keeps rare foreground from collapsing to empty masks.
        threshold: probability above which a pixel is foreground, for one class and for regions.
        largest_component: keep only the largest connected part of each class or region in the mask
            of an image, before it is scored or written. A whole scan keeps its largest in 3-D.
        **kwargs: of the base class: `optimizer`, `lr_scheduler` and `scheduler_interval`.

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
        regions: bool = False,
        loss: nn.Module | None = None,
        foreground_prior: float | None = None,
        threshold: float = 0.5,
        largest_component: bool = False,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        loss = DiceCrossEntropy() if loss is None else loss
        scores = partial(segmentation_scores, max(classes, 2), regions=regions)
        super().__init__(net, classes, loss, scores, regions or classes == 1, **kwargs)
        for name, value in (("foreground_prior", foreground_prior), ("threshold", threshold)):
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"Expected `{name}` to lie between 0 and 1, but got {value}.")
        self.regions = regions
        self.threshold = threshold
        self.largest_component = largest_component
        if foreground_prior is not None:
            start_output_bias(net, classes, foreground_prior, sigmoid=self.sigmoid)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the mask of each image, uint8 (B, H, W), or (B, classes, H, W) of regions."""
        return self.scored(self(batch["image"]))

    def scored(self, logits: Tensor) -> Tensor:
        """Turn logits (B, classes, H, W) into masks, uint8 (B, H, W), or of the logits' shape."""
        if self.sigmoid:
            mask = (logits.sigmoid() > self.threshold).to(torch.uint8)
            mask = mask if self.regions else mask[:, 0]
        else:
            mask = logits.argmax(dim=1).to(torch.uint8)
        if not self.largest_component:
            return mask
        kept = [keep_largest_component(m.cpu().numpy(), regions=self.regions) for m in mask]
        return torch.stack([torch.from_numpy(m) for m in kept]).to(mask.device)

    def resized_masks(self, logits: Tensor, sizes: Iterable[tuple[int, ...]]) -> list[Tensor]:
        """Resize the logits of each image to a height and width, and return its mask there."""
        return [
            self.scored(F.interpolate(of_image[None], size, mode="bilinear"))[0]
            for of_image, size in zip(logits, sizes, strict=True)
        ]

    def answers(self, logits: Tensor, batch: Batch) -> Masks:
        """Return masks on the pixels where the batch holds its truth."""
        if ORIGINAL in batch:
            return self.resized_masks(logits, [mask.shape[-2:] for mask in batch[ORIGINAL]])
        return self.scored(logits)

    def update_scores(self, scores: MetricCollection, predicted: Any, batch: Batch) -> None:
        """Add masks to the scores, which are taken case by case."""
        scores.update(predicted, batch.get(ORIGINAL, batch["mask"]), batch.get(CASE))

    def check_truth(self, batch: Batch) -> None:
        """Raise a DataError for masks that hold other numbers than classes."""
        check_mask_values(batch["mask"], 1 if self.regions else self.classes)

    def check_logits(self, logits: Tensor, truth: Tensor) -> None:
        """Raise a ConfigError if logits and masks have different sizes."""
        check_sizes(logits, truth, regions=self.regions)
