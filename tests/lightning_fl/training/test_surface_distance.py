import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from lightning_fl.training.surface_distance import Region, surface_distances


def blobs(shape: tuple[int, ...]) -> tuple[Region, Region]:
    rng = np.random.default_rng(0)
    one, other = (ndimage.gaussian_filter(rng.standard_normal(shape), 2) > 0.03 for _ in range(2))
    return one, other


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 30), (1.0, 1.0)), ((12, 20, 16), (3.0, 0.5, 1.0))]
)
def test_distances_equal_those_of_monai(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    one, other = blobs(shape)
    pair = [torch.from_numpy(mask)[None, None] for mask in (one, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a call that MONAI makes itself
        hd95 = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing)
        )
        assd = compute_average_surface_distance(
            *pair, include_background=True, symmetric=True, spacing=list(spacing)
        )
    assert surface_distances(one, other, spacing) == pytest.approx((hd95.item(), assd.item()))


def test_a_shifted_bar_by_hand() -> None:
    one, other = np.zeros((9, 9), dtype=bool), np.zeros((9, 9), dtype=bool)
    one[2, 2:5] = other[4, 2:5] = True
    assert surface_distances(one, other, (1.5, 1.0)) == (3.0, 3.0)


def test_two_empty_masks_have_no_distance() -> None:
    nothing = np.zeros((4, 4), dtype=bool)
    assert all(map(math.isnan, surface_distances(nothing, nothing, (1, 1))))


def test_one_empty_mask_is_as_far_as_the_image_is_wide() -> None:
    nothing, something = np.zeros((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)
    something[1, 1] = True
    assert surface_distances(nothing, something, (2, 2)) == (10, 10)
    assert surface_distances(something, nothing, (1, 1)) == (5, 5)
