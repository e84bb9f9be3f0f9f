"""Dice, IoU, precision and recall, pooled over all pixels of a split.

Pooled (micro over pixels), not averaged over images: one image without foreground then decides
nothing. With classes, each foreground class is scored by itself and the mean is taken (macro).
torchmetrics' own scores are not used because their `ignore_index=0` drops background pixels from
the count, and with them the false positives there; and because their `zero_division` cannot tell
"nothing to find, nothing found" from "something to find, nothing found" in precision.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

Fraction = tuple[Tensor, Tensor]
"""Numerator and denominator of a score, one entry for each class."""


def dice(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """`2 TP / (2 TP + FP + FN)`, also called F1."""
    return 2 * tp, 2 * tp + fp + fn


def iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """`TP / (TP + FP + FN)`, also called the Jaccard index."""
    return tp, tp + fp + fn


def precision(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """`TP / (TP + FP)`."""
    return tp, tp + fp


def recall(tp: Tensor, fp: Tensor, fn: Tensor) -> Fraction:
    """`TP / (TP + FN)`, also called sensitivity."""
    return tp, tp + fn


def foreground_score(
    score: Callable[[Tensor, Tensor, Tensor], Fraction], confusion: Tensor
) -> Tensor:
    """Mean of a score over the foreground classes that are in the truth or in the prediction.

    Where there are none of them, nothing was to be found and nothing was found: the score is 1.
    Otherwise a score without denominator is 0: precision where nothing is predicted, recall where
    nothing was to be found but something is predicted. This is the same rule for all four scores.

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


class ForegroundScore(Metric):
    """One score of label maps, pooled over all pixels since the last reset.

    Args:
        score: `dice`, `iou`, `precision` or `recall`.
        classes: number of classes, background included; 2 for a binary task.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(
        self, score: Callable[[Tensor, Tensor, Tensor], Fraction], *, classes: int
    ) -> None:
        super().__init__()
        self.score = score
        self.classes = classes
        counts = torch.zeros(classes, classes, dtype=torch.long)
        self.add_state("confusion", default=counts, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Add the pixels of a batch.

        Args:
            predicted: class numbers of any shape and integer type.
            mask: true class numbers, of the same shape.
        """
        pairs = mask.long().flatten() * self.classes + predicted.long().flatten()
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.confusion += counts.reshape(self.classes, self.classes)

    def compute(self) -> Tensor:
        """The score of all pixels so far."""
        return foreground_score(self.score, self.confusion)


def segmentation_scores(classes: int, prefix: str) -> MetricCollection:
    """The four scores, named `<prefix>dice` and so on, which count their pixels once for all.

    Args:
        classes: number of classes, background included; 2 for a binary task.
        prefix: what comes before each name, e.g. "val/".
    """
    scores = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
    return MetricCollection(
        {name: ForegroundScore(score, classes=classes) for name, score in scores.items()},
        prefix=prefix,
        compute_groups=[list(scores)],
    )
