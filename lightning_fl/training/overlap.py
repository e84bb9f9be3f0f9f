"""Overlap of predicted and true masks: Dice, IoU, precision and recall from counts of pixels.

Counts are int64 tensors (images, 3, foreground classes): true positives, false positives and false
negatives. torchmetrics' scores do not do for two reasons. Their `ignore_index=0` drops background
pixels from the count, and with them the false positives there. Their `zero_division` cannot tell
"nothing to find, nothing found" from "something to find, nothing found" in precision.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Fraction = tuple[Tensor, Tensor]
"""Numerator and denominator of a score."""
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


OVERLAP: Mapping[str, Counted] = {
    "dice": dice,
    "iou": iou,
    "precision": precision,
    "recall": recall,
}


def overlap_counts(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count the pixels of each image, (images, 3, classes - 1).

    Args:
        predicted: class numbers (images, ...), 0 being background.
        truth: class numbers of the same shape.
        classes: number of classes, background included.
    """
    images = torch.arange(len(truth), device=truth.device).view(-1, *[1] * (truth.ndim - 1))
    pairs = (images * classes + truth.long()) * classes + predicted.long()
    counts = torch.bincount(pairs.flatten(), minlength=len(truth) * classes**2)
    confusion = counts.reshape(len(truth), classes, classes)
    tp = confusion.diagonal(dim1=1, dim2=2)
    fp, fn = confusion.sum(dim=1) - tp, confusion.sum(dim=2) - tp
    return torch.stack([tp, fp, fn], dim=1)[..., 1:]


def sum_by_case(counts: Tensor, cases: Tensor) -> Tensor:
    """Add up the counts of the images of each case, in the order of the cases' numbers.

    Args:
        counts: of images.
        cases: number of each image's case; an image with a negative one is a case by itself.
    """
    alone = cases < 0
    numbers = torch.where(alone, cases.max() + alone.cumsum(0), cases)
    distinct, places = torch.unique(numbers, return_inverse=True)
    return counts.new_zeros(len(distinct), *counts.shape[1:]).index_add_(0, places, counts)


def class_scores(score: Counted, counts: Tensor) -> Tensor:
    """Return a score of each class by itself, (images, foreground classes).

    A class that is neither in the truth nor in the prediction scores 1: nothing was to be found and
    nothing was found. Any other score without denominator is 0: precision where nothing is
    predicted, recall where nothing was to be found but something is predicted.
    """
    numerator, denominator = score(*counts.unbind(dim=1))
    scores = numerator / denominator.clamp(min=1)  # a numerator is 0 where its denominator is
    return scores.where(_present(counts), 1.0)


def foreground_scores(score: Counted, counts: Tensor) -> Tensor:
    """Average a score over the classes in the truth or in the prediction, (images,).

    Where there is no class at all, the score is 1.
    """
    present = _present(counts)
    mean = class_scores(score, counts).where(present, 0).sum(1) / present.sum(1).clamp(min=1)
    return mean.where(present.any(1), 1.0)


def _present(counts: Tensor) -> Tensor:
    return counts.sum(dim=1) > 0
