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


def means_over_folds(folds: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return each variant's mean score over folds, weighted by their patients.

    A variant with NaN in a fold has NaN. A fold that has a score for no variant at all tells
    nothing: all its pixels are ignored, or its patients have one class alone. It is left out.

    Args:
        folds: the patients of each, and its scores by variant.
    """
    defined = [fold for fold in folds if not all(map(math.isnan, fold[1].values()))] or folds
    patients = sum(count for count, _ in defined)
    return {
        name: math.fsum(count * scores[name] for count, scores in defined) / patients
        for name in folds[0][1]
    }
