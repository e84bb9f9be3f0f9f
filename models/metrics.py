"""Dice, IoU, precision and recall of a split, as means over its cases, and the pooled Dice.

The case is the patient: slices of one patient are not independent. The scores of a patient come
from the pixels of all its images together. With classes or regions, each of the foreground is
scored by itself and the mean is taken (macro). A case of which no pixel counts has no score.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from lightning_fl.training.overlap import (
    OVERLAP,
    Counted,
    Masks,
    dice,
    foreground_scores,
    overlap_counts,
    sum_by_case,
)


class CaseScore(Metric):
    """Compute a score of the counts of all cases since the last reset.

    Args:
        score: of counts (cases, 4, foreground classes), see `lightning_fl.training.overlap`.
        classes: number of classes, background included, at least 2.
        regions: whether masks are those of overlapping regions, (B, regions, H, W).
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: list[Tensor]
    cases: list[Tensor]

    def __init__(
        self, score: Callable[[Tensor], Tensor], *, classes: int, regions: bool = False
    ) -> None:
        super().__init__()
        self.score = score
        self.count = partial(overlap_counts, classes=classes, regions=regions)
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self.add_state("cases", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Masks, truth: Masks, case: Tensor | None = None) -> None:
        """Count the pixels of a batch.

        Args:
            predicted: class numbers (B, H, W), or regions; a list where sizes differ.
            truth: of the same shape.
            case: number of each image's case, int64 (B,); without it each image is a case.
        """
        counts = self.count(predicted, truth)
        self.counts.append(counts)
        self.cases.append(counts.new_full((len(truth),), -1) if case is None else case)

    def compute(self) -> Tensor:
        """Return the score of everything counted so far."""
        return self.score(sum_by_case(dim_zero_cat(self.counts), dim_zero_cat(self.cases)))


def mean_over_cases(score: Counted, counts: Tensor) -> Tensor:
    """Return the mean of the scores of those cases that have one."""
    return foreground_scores(score, counts).nanmean()


def pooled(score: Counted, counts: Tensor) -> Tensor:
    """Return the score of the pixels of all cases together, as if they were one."""
    return foreground_scores(score, counts.sum(dim=0, keepdim=True))[0]


def segmentation_scores(classes: int, prefix: str, *, regions: bool = False) -> MetricCollection:
    """Return the scores, named `<prefix>dice` and so on. They share one count of pixels.

    Args:
        classes: number of classes, background included; 2 for a binary task.
        prefix: what comes before each name, e.g. "val/".
        regions: whether masks are those of overlapping regions.
    """
    scores = {name: partial(mean_over_cases, score) for name, score in OVERLAP.items()}
    scores["dice_pooled"] = partial(pooled, dice)
    return MetricCollection(
        {n: CaseScore(score, classes=classes, regions=regions) for n, score in scores.items()},
        prefix=prefix,
        compute_groups=[list(scores)],
    )
