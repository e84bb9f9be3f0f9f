"""Scores of a classifier over all cases of a split; NaN where the split does not define one.

A split of a small hospital may hold one class only. torchmetrics then gives 0, with a warning at
every evaluation. A 0 would pull the mean over hospitals down; NaN is left out of it. With two
classes, class 1 is the disease; with more, scores are means over classes (macro). Of several labels
each is scored by itself, on the cases where it is not missing.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.utilities import dim_zero_cat

from models.confusion import ConfusionScore


def accuracy(confusion: Tensor) -> Tensor:
    """Return the share of cases that are recognised."""
    return confusion.diag().sum() / confusion.sum()


def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Average the share of recognised cases over the classes in the truth."""
    return _recalls(confusion).nanmean()


def sensitivity(confusion: Tensor) -> Tensor:
    """Return `TP / (TP + FN)`, undefined where nobody has the disease."""
    recalls = _recalls(confusion)
    return recalls[1] if len(recalls) == 2 else recalls.nanmean()


def specificity(confusion: Tensor) -> Tensor:
    """Return `TN / (TN + FP)`, undefined where nobody is healthy."""
    negatives = confusion.sum() - confusion.sum(dim=1)
    false_alarms = confusion.sum(dim=0) - confusion.diag()
    specificities = (negatives - false_alarms) / negatives
    return specificities[1] if len(specificities) == 2 else specificities.nanmean()


def f1(confusion: Tensor) -> Tensor:
    """Return `2 TP / (2 TP + FP + FN)`, undefined where a class is neither there nor predicted."""
    scores = 2 * confusion.diag() / (confusion.sum(dim=0) + confusion.sum(dim=1))
    return scores[1] if len(scores) == 2 else scores.nanmean()


def auroc(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the ROC curve, by trapezoids over all thresholds; ties count half.

    With few cases it moves in steps of 1 / (diseased x healthy): 0.25 for two of each.

    Args:
        probabilities: (N, classes).
        labels: class numbers (N,).

    Returns:
        The area of class 1 for two classes; for more, the mean over each class against the rest.
        A class that nobody or everybody has takes no part. NaN if that leaves none.
    """
    classes = probabilities.shape[1]
    areas = [
        binary_auroc(probabilities[:, number], (labels == number).long(), validate_args=False)
        for number in (range(classes) if classes > 2 else [1])
        if 0 < int((labels == number).sum()) < len(labels)
    ]
    return torch.stack(areas).mean() if areas else probabilities.new_tensor(torch.nan)


def label_score(
    score: Callable[[Tensor, Tensor], Tensor], probabilities: Tensor, labels: Tensor
) -> Tensor:
    """Return a score of each of several labels, (labels,).

    A label is NaN that nobody or everybody has of the cases where it is there.

    Args:
        score: of probabilities (N,) and int64 labels (N,), e.g. torchmetrics' `binary_auroc`.
        probabilities: (N, labels).
        labels: 0, 1 or NaN, which is missing, (N, labels).
    """
    scores = torch.full_like(probabilities[0], torch.nan)
    for number, (column, truth) in enumerate(zip(probabilities.T, labels.T, strict=True)):
        there = ~truth.isnan()
        if len(truth[there].unique()) == 2:
            scores[number] = score(column[there], truth[there].long())
    return scores


class CaseRanking(Metric):
    """Remembers all cases since the last reset and returns a score of them.

    Args:
        score: of probabilities (N, classes) and class numbers (N,) or labels (N, classes).
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score
        self.add_state("probabilities", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add the cases of a batch: probabilities (B, classes) and their labels."""
        self.probabilities.append(probabilities.detach())
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """Return the score of all cases so far."""
        return self.score(dim_zero_cat(self.probabilities), dim_zero_cat(self.labels))


def classification_scores(classes: int, prefix: str) -> MetricCollection:
    """Return all scores, named `<prefix>auroc` and so on; they take probabilities and labels.

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
    scores |= {"auroc": CaseRanking(auroc), "ece": MulticlassCalibrationError(classes, n_bins=15)}
    return MetricCollection(
        scores, prefix=prefix, compute_groups=[list(counted), ["auroc"], ["ece"]]
    )


def multilabel_scores(count: int, prefix: str) -> MetricCollection:
    """Return AUROC and average precision of several labels, as means and one by one.

    They are named `<prefix>auroc` and `<prefix>average_precision`; of the first label alone
    `<prefix>auroc/1`, and so on.

    Args:
        count: number of labels.
        prefix: what comes before each name, e.g. "val/".
    """
    of_labels = {
        "auroc": partial(label_score, binary_auroc),
        "average_precision": partial(label_score, binary_average_precision),
    }
    scores: dict[str, Metric | MetricCollection] = {
        name: CaseRanking(partial(_mean, score)) for name, score in of_labels.items()
    }
    scores |= {
        f"{name}/{number + 1}": CaseRanking(partial(_single, score, number))
        for name, score in of_labels.items()
        for number in range(count)
    }
    return MetricCollection(scores, prefix=prefix, compute_groups=[list(scores)])


def _mean(
    score: Callable[[Tensor, Tensor], Tensor], probabilities: Tensor, labels: Tensor
) -> Tensor:
    return score(probabilities, labels).nanmean()


def _single(
    score: Callable[[Tensor, Tensor], Tensor], number: int, probabilities: Tensor, labels: Tensor
) -> Tensor:
    return score(probabilities[:, [number]], labels[:, [number]])[0]


def _recalls(confusion: Tensor) -> Tensor:
    """Return the share of each class's cases that is recognised; NaN if nobody has the class."""
    return confusion.diag() / confusion.sum(dim=1)
