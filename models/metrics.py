"""Dice, IoU, precision and recall, pooled over all pixels of a split.

They are pooled (micro over pixels) and not averaged over images: a mean over images would let an
image without foreground count as 0 or 1 and decide the result. With classes, each foreground class
is scored by itself and the mean is taken (macro). torchmetrics' scores do not do for two reasons.
Their `ignore_index=0` drops background pixels from the count, and with them the false positives
there. Their `zero_division` cannot tell "nothing to find, nothing found" from "something to find,
nothing found" in precision.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from models.confusion import ConfusionScore

Fraction = tuple[Tensor, Tensor]
"""Numerator and denominator of a score, one entry for each class."""
Counted = Callable[[Tensor, Tensor, Tensor], Fraction]
"""A score of true positives, false positives and false negatives."""


def dice(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """Return `2 TP / (2 TP + FP + FN)`, also called F1."""
    return 2 * tp, 2 * tp + fp + fn


def iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """Return `TP / (TP + FP + FN)`, also called the Jaccard index."""
    return tp, tp + fp + fn


def precision(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """Return `TP / (TP + FP)`."""
    return tp, tp + fp


def recall(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """Return `TP / (TP + FN)`, also called sensitivity."""
    return tp, tp + fn


def foreground_score(score: Counted, confusion: Tensor) -> Tensor:
    """Average a score over the foreground classes that are in the truth or in the prediction.

    Where there are none of them, nothing was to be found and nothing was found: the score is 1.
    Otherwise a score without denominator is 0: precision where nothing is predicted, recall where
    nothing was to be found but something is predicted. This rule holds for all four scores.

    Args:
        score: `dice`, `iou`, `precision` or `recall`.
        confusion: (classes, classes) counts of pixels, rows being the truth.
    """
    tp = confusion.diag()[1:]
    fp = confusion.sum(dim=0)[1:] - tp
    fn = confusion.sum(dim=1)[1:] - tp
    present = tp + fp + fn > 0
    numerator, denominator = score(tp, fp, fn)
    scores = numerator / denominator.clamp(min=1)  # a numerator is 0 where its denominator is
    return torch.where(present.any(), scores.sum() / present.sum().clamp(min=1), 1.0)


def segmentation_scores(classes: int, prefix: str) -> MetricCollection:
    """Return the four scores, named `<prefix>dice` and so on. They share one count of pixels.

    Args:
        classes: number of classes, background included; 2 for a binary task.
        prefix: what comes before each name, e.g. "val/".
    """
    counted = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
    return MetricCollection(
        {
            name: ConfusionScore(partial(foreground_score, score), classes=classes)
            for name, score in counted.items()
        },
        prefix=prefix,
        compute_groups=[list(counted)],
    )
