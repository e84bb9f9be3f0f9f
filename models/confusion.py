"""Scores of predicted classes, counted over all cases or pixels since the last reset."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionScore(Metric):
    """One score of a matrix of counts, rows being the truth.

    It is not torchmetrics' MulticlassConfusionMatrix, whose memory under deterministic algorithms
    grows with pixels times classes squared.

    Args:
        score: of a (classes, classes) matrix.
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

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a batch of class numbers, or of probabilities (B, classes, ...), and its truth."""
        if predicted.is_floating_point():
            predicted = predicted.argmax(dim=1)
        pairs = truth.long().flatten() * self.classes + predicted.long().flatten()
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.confusion += counts.reshape(self.classes, self.classes)

    def compute(self) -> Tensor:
        """Return the score of everything counted so far."""
        return self.score(self.confusion)
