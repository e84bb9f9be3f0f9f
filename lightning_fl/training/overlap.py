"""Overlap of predicted and true masks: Dice, IoU, precision and recall from counts of pixels.

Counts are int64 tensors (images, 4, foreground classes or regions): true positives, false
positives, false negatives and true negatives. Pixels of `IGNORE` are in none of them, and a score
of no pixel at all is NaN. torchmetrics' scores do not do for two reasons. Their `ignore_index=0`
drops background pixels from the count, and with them the false positives there. Their
`zero_division` cannot tell "nothing to find, nothing found" from "something to find, nothing
found" in precision.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_fl.data.module import IGNORE

Masks = Tensor | Sequence[Tensor]
"""Masks of several images: one tensor, or one for each image where their sizes differ."""

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


def overlap_counts(
    predicted: Masks, truth: Masks, classes: int, *, regions: bool = False
) -> Tensor:
    """Count the pixels of each image, (images, 4, classes - 1) or (images, 4, regions).

    Args:
        predicted: class numbers (images, ...), 0 being background.
        truth: class numbers of the same shape, or `IGNORE`.
        classes: number of classes, background included; regions do without.
        regions: whether masks are 0 and 1 of overlapping regions, (images, regions, ...).
    """
    if not (isinstance(predicted, Tensor) and isinstance(truth, Tensor)):
        each = [
            overlap_counts(p[None], t[None], classes, regions=regions)
            for p, t in zip(predicted, truth, strict=True)
        ]
        return torch.cat(each)
    if regions:
        binary = overlap_counts(predicted.flatten(0, 1), truth.flatten(0, 1), 2)
        return binary.view(*truth.shape[:2], 4).transpose(1, 2)
    images = torch.arange(len(truth), device=truth.device).view(-1, *[1] * (truth.ndim - 1))
    pairs = (images * classes + truth.long()) * classes + predicted.long()
    counts = torch.bincount(pairs[truth != IGNORE], minlength=len(truth) * classes**2)
    confusion = counts.reshape(len(truth), classes, classes)
    tp = confusion.diagonal(dim1=1, dim2=2)
    fp, fn = confusion.sum(dim=1) - tp, confusion.sum(dim=2) - tp
    tn = confusion.sum(dim=(1, 2))[:, None] - tp - fp - fn
    return torch.stack([tp, fp, fn, tn], dim=1)[..., 1:]


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
    predicted, recall where nothing was to be found but something is predicted. A class of which no
    pixel counts has NaN.
    """
    numerator, denominator = score(*counts[:, :3].unbind(dim=1))
    scores = numerator / denominator.clamp(min=1)  # a numerator is 0 where its denominator is
    return scores.where(_present(counts), 1.0).where(counts.sum(dim=1) > 0, math.nan)


def foreground_scores(score: Counted, counts: Tensor) -> Tensor:
    """Average a score over the classes in the truth or in the prediction, (images,).

    Where there is no class at all, the score is 1; where no pixel counts, it is NaN.
    """
    present = _present(counts)
    mean = class_scores(score, counts).where(present, 0).sum(1) / present.sum(1).clamp(min=1)
    return mean.where(present.any(1), 1.0).where(counts.sum(dim=(1, 2)) > 0, math.nan)


def _present(counts: Tensor) -> Tensor:
    return counts[:, :3].sum(dim=1) > 0
