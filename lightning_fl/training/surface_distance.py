"""Distances between the surfaces of a predicted and a true mask, by MONAI."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from monai.metrics.utils import get_mask_edges, get_surface_distance
from monai.transforms.utils import generate_spatial_bounding_box

Region = npt.NDArray[np.bool_]


class SurfaceDistances(NamedTuple):
    """Hold the distances of one class in one image or volume.

    Attributes:
        hd95: the larger of the two directed 95th percentiles (the 95 % Hausdorff distance).
        assd: the mean over both surfaces (the average symmetric surface distance).
    """

    hd95: float
    assd: float


UNDEFINED = SurfaceDistances(math.nan, math.nan)


def surface_distances(
    predicted: Region, truth: Region, spacing: Sequence[float]
) -> SurfaceDistances:
    """Measure the distances between two surfaces, in the unit of the spacing.

    They are not defined, NaN, where both masks are empty. Where one is empty, they are the longest
    distance that there is, the diagonal of the image. The numbers equal those of MONAI's
    `compute_hausdorff_distance` and `compute_average_surface_distance`, which would find the
    surfaces twice.

    Args:
        predicted: of any number of dimensions.
        truth: of the same shape.
        spacing: edges of a pixel, one for each dimension.
    """
    union = predicted | truth
    if not union.any():
        return UNDEFINED
    if not predicted.any() or not truth.any():
        diagonal = math.hypot(*(edge * n for edge, n in zip(spacing, truth.shape, strict=True)))
        return SurfaceDistances(diagonal, diagonal)
    # MONAI crops by itself, but only after it has copied the whole volume several times
    box = tuple(
        map(slice, *generate_spatial_bounding_box(union[None], margin=1, allow_smaller=True))
    )
    edges = get_mask_edges(predicted[box], truth[box], crop=False)
    there, back = (
        get_surface_distance(*pair, spacing=list(spacing)) for pair in (edges, edges[::-1])
    )
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return SurfaceDistances(float(hd95), float(np.concatenate([there, back]).mean()))
