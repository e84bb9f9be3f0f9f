"""Scores of a classifier over all cases of a split; NaN where the split does not define one.

A split of a small hospital may hold one class only. torchmetrics then gives 0, with a warning at
every evaluation, and a 0 would pull the mean over hospitals down; NaN is left out of it. With two
classes, class 1 is the disease; with more, scores are means over classes (macro).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat


def accuracy(confusion: Tensor) -> Tensor:
    """Share of cases that are recognised."""
    return confusion.diag().sum() / confusion.sum()


def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Mean over the classes in the truth of the share of their cases that is recognised."""
    return _recalls(confusion).nanmean()


def sensitivity(confusion: Tensor) -> Tensor:
    """`TP / (TP + FN)`, undefined where nobody has the disease."""
    recalls = _recalls(confusion)
    return recalls[1] if len(recalls) == 2 else recalls.nanmean()


def specificity(confusion: Tensor) -> Tensor:
    """`TN / (TN + FP)`, undefined where nobody is healthy."""
    negatives = confusion.sum() - confusion.sum(dim=1)
    false_alarms = confusion.sum(dim=0) - confusion.diag()
    specificities = (negatives - false_alarms) / negatives
    return specificities[1] if len(specificities) == 2 else specificities.nanmean()


def f1(confusion: Tensor) -> Tensor:
    """`2 TP / (2 TP + FP + FN)`, undefined where a class is neither there nor predicted."""
    scores = 2 * confusion.diag() / (confusion.sum(dim=0) + confusion.sum(dim=1))
    return scores[1] if len(scores) == 2 else scores.nanmean()


def auroc(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Area under the ROC curve, by trapezoids over all thresholds; ties count half.

    With few cases it moves in steps of 1 / (diseased x healthy): 0.25 for two of each.

    Args:
        probabilities: (N, classes).
        labels: class numbers (N,).

    Returns:
        For two classes that of class 1; for more, the mean over each class against the rest. A
        class that nobody or everybody has takes no part; NaN where that leaves none.
    """
    classes = probabilities.shape[1]
    areas = [
        binary_auroc(probabilities[:, number], (labels == number).long(), validate_args=False)
        for number in (range(classes) if classes > 2 else [1])
        if 0 < int((labels == number).sum()) < len(labels)
    ]
    return torch.stack(areas).mean() if areas else probabilities.new_tensor(torch.nan)


class ConfusionScore(Metric):
    """One score of predicted classes, counted over all cases since the last reset.

    Args:
        score: of a (classes, classes) matrix of counts, rows being the truth.
        classes: number of classes, at least 2.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, score: Callable[[Tensor], Tensor], *, classes: int) -> None:
        super().__init__()
        self.score = score
        self.classes = classes
        counts = torch.zeros(classes, classes, dtype=torch.long)
        self.add_state("confusion", default=counts, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add the cases of a batch: probabilities (B, classes) and class numbers (B,)."""
        pairs = labels.long() * self.classes + probabilities.argmax(dim=1)
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.confusion += counts.reshape(self.classes, self.classes)

    def compute(self) -> Tensor:
        """The score of all cases so far."""
        return self.score(self.confusion)


class Auroc(Metric):
    """`auroc` of all cases since the last reset, which it remembers."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add the cases of a batch: probabilities (B, classes) and class numbers (B,)."""
        self.probabilities.append(probabilities.detach())
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """The area over all cases so far."""
        return auroc(dim_zero_cat(self.probabilities), dim_zero_cat(self.labels))


def classification_scores(classes: int, prefix: str) -> MetricCollection:
    """All scores, named `<prefix>auroc` and so on; they take probabilities and labels.

    `ece` is the expected calibration error of the predicted class, over 15 bins of its probability:
    the mean of |share of right answers - probability|, weighted by the cases in a bin.

    Args:
        classes: number of classes, at least 2.
        prefix: what comes before each name, e.g. "val/".
    """
    counted = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "f1": f1,
        "sensitivity": sensitivity,
        "specificity": specificity,
    }
    scores: dict[str, Metric | MetricCollection] = {
        name: ConfusionScore(score, classes=classes) for name, score in counted.items()
    }
    scores |= {"auroc": Auroc(), "ece": MulticlassCalibrationError(classes, n_bins=15)}
    return MetricCollection(
        scores, prefix=prefix, compute_groups=[list(counted), ["auroc"], ["ece"]]
    )


def _recalls(confusion: Tensor) -> Tensor:
    """Share of each class's cases that is recognised; NaN for a class that nobody has."""
    return confusion.diag() / confusion.sum(dim=1)
