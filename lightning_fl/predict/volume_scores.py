"""Scores of one patient's mask in three dimensions."""

import math
import warnings

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from lightning_fl.data.scans import Mask

MILLILITRE = 1000.0
"""Cubic millimetres."""


def volume_scores(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Dice, sensitivity, 95 % Hausdorff distance and error of the lesion's volume.

    With several foreground classes each is the mean over those in the truth or the prediction, but
    the error of the volume, which is of all foreground together.

    Args:
        predicted: class numbers (X, Y, Z), 0 being background.
        truth: the same for the reader's mask.
        spacing: edges of a voxel in mm.

    Returns:
        `dice` in [0, 1], 1 where both are empty; `sensitivity` in [0, 1], NaN without lesion;
        `hd95` in mm, NaN where one of the two is empty; `volume_error` in ml, never negative.
    """
    classes = sorted({*np.unique(predicted).tolist(), *np.unique(truth).tolist()} - {0})
    each = [_of_class(predicted == number, truth == number, spacing) for number in classes]
    voxel = math.prod(spacing) / MILLILITRE
    found, real = np.count_nonzero(predicted), np.count_nonzero(truth)
    return {
        "dice": _mean([one[0] for one in each]) if each else 1.0,
        "sensitivity": _mean([one[1] for one in each]),
        "hd95": _mean([one[2] for one in each]),
        "volume_error": abs(found - real) * voxel,
    }


def _of_class(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Dice, sensitivity and 95 % Hausdorff distance of two boolean masks, not both empty."""
    both = np.count_nonzero(predicted & truth)
    found, real = np.count_nonzero(predicted), np.count_nonzero(truth)
    sensitivity = both / real if real else math.nan
    return 2 * both / (found + real), sensitivity, _hausdorff(predicted, truth, spacing)


def _hausdorff(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> float:
    """95th percentile of the distances between the two surfaces in mm, the larger way round."""
    if not predicted.any() or not truth.any():
        return math.nan
    box = _around(predicted | truth)  # distances need no more than what lies around the two
    pair = [
        torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (predicted, truth)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of a call that it makes itself
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing)
        )
    return float(distance)


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask, one voxel wider where there is room."""
    spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(max(int(s[0]) - 1, 0), int(s[-1]) + 2) for s in spans)


def _mean(values: list[float]) -> float:
    """Mean of those that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
