"""Scores of one patient's mask in three dimensions."""

import math
import warnings

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from monai.transforms.utils import generate_spatial_bounding_box

from lightning_fl.data.scans import Mask

MILLILITRE = 1000.0
"""Cubic millimetres."""


def volume_scores(
    predicted: Mask, truth: Mask, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Compute Dice, sensitivity, 95 % Hausdorff distance and error of the lesion's volume.

    With several foreground classes each score is the mean over those in the truth or the
    prediction. Only the error of the volume is of all foreground together. A class that is in one
    of the two alone has Dice 0 and the longest distance that there is, the diagonal of the volume.
    The 95 % Hausdorff distance is the larger of the two directed 95th percentiles of distances
    between surfaces, as MONAI computes it.

    Args:
        predicted: class numbers (X, Y, Z), 0 being background.
        truth: class numbers of the reader's mask.
        spacing: edges of a voxel in mm.

    Returns:
        `dice` in [0, 1], 1 where both are empty; `sensitivity` in [0, 1], NaN without lesion;
        `hd95` in mm, NaN where both are empty; `volume_error` in ml, never negative.
    """
    classes = sorted({*np.unique(predicted).tolist(), *np.unique(truth).tolist()} - {0})
    scores = [_of_class(predicted == number, truth == number, spacing) for number in classes]
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
    return 2 * both / (positives + lesion), sensitivity, _hausdorff(predicted, truth, spacing)


def _hausdorff(
    predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> float:
    """Compute the 95 % Hausdorff distance in mm of boolean masks, not both empty."""
    if not predicted.any() or not truth.any():
        return math.hypot(*(edge * n for edge, n in zip(spacing, truth.shape, strict=True)))
    # MONAI crops by itself, but only after it has copied the whole volume several times
    union = (predicted | truth)[None]
    box = tuple(map(slice, *generate_spatial_bounding_box(union, margin=1, allow_smaller=True)))
    pair = [torch.from_numpy(mask[box].copy())[None, None] for mask in (predicted, truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of a call that it makes itself
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing)
        )
    return float(distance)


def _mean(values: list[float]) -> float:
    """Return the mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
