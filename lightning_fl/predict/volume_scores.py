"""Scores of one patient's mask in three dimensions."""

import math

import numpy as np

from lightning_fl.data.module import IGNORE
from lightning_fl.data.scans import Mask
from lightning_fl.training.surface_distance import surface_distances

MILLILITRE = 1000.0
"""Cubic millimetres."""


def volume_scores(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Compute Dice, sensitivity, 95 % Hausdorff distance and error of the lesion's volume.

    With several foreground classes each score is the mean over those in the truth or the
    prediction. Only the error of the volume is of all foreground together. A class that is in one
    of the two alone has Dice 0 and the longest distance that there is, the diagonal of the volume.
    See `surface_distances` for the 95 % Hausdorff distance.

    Overlapping regions are scored one by one, as classes are. Voxels of `IGNORE` count nowhere.

    Args:
        predicted: class numbers (X, Y, Z), 0 being background, or (regions, X, Y, Z) of 0 and 1.
        truth: the reader's mask, of the same shape.
        spacing: edges of a voxel in mm.

    Returns:
        `dice` in [0, 1], 1 where both are empty; `sensitivity` in [0, 1], NaN without lesion;
        `hd95` in mm, NaN where both are empty; `volume_error` in ml, never negative. All are NaN
        where no voxel counts.
    """
    counted = truth != IGNORE
    if not counted.any():
        return dict.fromkeys(("dice", "sensitivity", "hd95", "volume_error"), math.nan)
    predicted, truth = predicted * counted, truth * counted
    if truth.ndim > len(spacing):
        pairs = [(p > 0, t > 0) for p, t in zip(predicted, truth, strict=True) if (p | t).any()]
        predicted, truth = predicted.max(axis=0), truth.max(axis=0)
    else:
        classes = sorted({*np.unique(predicted).tolist(), *np.unique(truth).tolist()} - {0})
        pairs = [(predicted == number, truth == number) for number in classes]
    scores = [_of_class(p, t, spacing) for p, t in pairs]
    voxel = math.prod(spacing) / MILLILITRE
    return {
        "dice": _mean([dice for dice, _, _ in scores]) if scores else 1.0,
        "sensitivity": _mean([sensitivity for _, sensitivity, _ in scores]),
        "hd95": _mean([distance for _, _, distance in scores]),
        "volume_error": abs(np.count_nonzero(predicted) - np.count_nonzero(truth)) * voxel,
    }


def _of_class(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Compute Dice, sensitivity and 95 % Hausdorff distance of boolean masks, not both empty."""
    both = np.count_nonzero(predicted & truth)
    positives, lesion = np.count_nonzero(predicted), np.count_nonzero(truth)
    sensitivity = both / lesion if lesion else math.nan
    distances = surface_distances(predicted, truth, spacing)
    return 2 * both / (positives + lesion), sensitivity, distances.hd95


def _mean(values: list[float]) -> float:
    """Return the mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
