"""LiRA-lite: how unusual is a sample's loss for a model that has not seen the sample?

The offline variant of the likelihood-ratio attack (Carlini et al. 2022, arXiv 2112.03570, section
IV-D), with few shadow models, whose losses of a sample are taken for Gaussian.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_fl.audit.membership.inference import Floats
from lightning_fl.errors import ConfigError, DataError

LEAST_SHADOWS = 2
SMALLEST = 1e-12
"""Losses below this are taken for it: their logarithm says no more."""


def offline_scores(target: ArrayLike, shadows: ArrayLike, inside: ArrayLike) -> Floats:
    """Score candidates, higher for "was a member", shape (candidates,).

    For each candidate, the losses of the shadow models that did not see it say how hard it is. The
    score is by how many standard deviations the attacked model's loss lies below their mean. Losses
    enter as logarithms, which are nearer to a Gaussian. With so few shadows one variance, over all
    candidates, is steadier than one for each.

    Args:
        target: the attacked model's loss of each candidate, shape (candidates,).
        shadows: each shadow model's, shape (shadow models, candidates).
        inside: whether the shadow model was trained on it; bool, of the same shape.

    Raises:
        DataError: shapes do not fit together, or too few shadow models have not seen a candidate.
    """
    attacked = _logarithms(target)
    others = _logarithms(shadows)
    outside = ~np.asarray(inside, dtype=bool)
    if others.ndim != 2 or others.shape != outside.shape or attacked.shape != others.shape[1:]:
        raise DataError(
            f"Expected losses of shapes (candidates,) and twice (shadows, candidates), but got "
            f"{attacked.shape}, {others.shape} and {outside.shape}."
        )
    counts = outside.sum(axis=0)
    if not counts.size or counts.min() < LEAST_SHADOWS:
        raise DataError(
            f"Expected each candidate to be unseen by at least {LEAST_SHADOWS} shadow models, but "
            f"one is by {counts.min() if counts.size else 0}. Train more of them."
        )
    mean = np.where(outside, others, 0).sum(axis=0) / counts
    squares = np.where(outside, (others - mean) ** 2, 0).sum()
    deviation = math.sqrt(squares / (counts - 1).sum())
    scores: Floats = (mean - attacked) / max(deviation, SMALLEST)
    return scores


def halves(candidates: int, shadows: int, seed: int = 0) -> NDArray[np.bool_]:
    """Draw which candidates each shadow model is trained on, shape (shadows, candidates).

    Shadow models come in pairs that share the candidates, so that each is unseen by half of them.

    Raises:
        ConfigError: fewer than four shadow models, or an odd number.
    """
    if shadows < 2 * LEAST_SHADOWS or shadows % 2:
        raise ConfigError(
            f"Expected an even number of shadow models, at least {2 * LEAST_SHADOWS}, but got "
            f"{shadows}."
        )
    generator = np.random.default_rng(seed)
    inside = np.zeros((shadows, candidates), dtype=bool)
    for pair in range(0, shadows, 2):
        inside[pair, generator.permutation(candidates)[: candidates // 2]] = True
        inside[pair + 1] = ~inside[pair]
    return inside


def _logarithms(losses: ArrayLike) -> Floats:
    values: Floats = np.log(np.maximum(np.asarray(losses, dtype=np.float64), SMALLEST))
    return values
