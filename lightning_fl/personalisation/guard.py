"""The guard: no site uses a model that is worse on its validation data than what it had."""

import math
from collections.abc import Mapping, Sequence

from lightning_fl.training.evaluation import Evaluation


def choose(
    scores: Mapping[str, float], references: Sequence[str], margin: float, evaluation: Evaluation
) -> str:
    """Return the name of the variant that a site uses.

    The best of the references sets the bar. These are the models that a site has without
    personalising. Of the other variants, those that beat the bar by more than `margin`, in units of
    the metric, compete. Of equal scores the first wins, and NaN never does.
    """
    best = references[0]
    for name in references:
        if evaluation.is_better(scores[name], scores[best]):
            best = name
    bar = scores[best] + (-margin if evaluation.lower_is_better else margin)
    for name, score in scores.items():
        if name not in references and evaluation.is_better(score, bar):
            best, bar = name, score
    return best


def patient_mean(scores: Sequence[tuple[int, float]]) -> float:
    """Return the mean of scores, each weighted by its patients; NaN if one of them is NaN."""
    patients = sum(count for count, _ in scores)
    return math.fsum(count * score for count, score in scores) / patients
