import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from lightning_fl.predict.volume_scores import volume_scores

Mask = npt.NDArray[np.uint8]


def box(start: int, stop: int, size: int = 20) -> Mask:
    """A cuboid that begins at `start` along the first axis."""
    mask = np.zeros((size, size, size), dtype=np.uint8)
    mask[start:stop, 5:10, 5:10] = 1
    return mask


def surface(mask: Mask) -> npt.NDArray[np.bool_]:
    inner: npt.NDArray[np.bool_] = ndimage.binary_erosion(mask)
    return mask.astype(bool) & ~inner


def hausdorff(a: Mask, b: Mask, spacing: tuple[float, float, float]) -> float:
    """The larger of the two 95th percentiles of surface distances, by distance transforms."""
    ways = []
    for one, other in ((a, b), (b, a)):
        distance = ndimage.distance_transform_edt(~surface(other), sampling=spacing)
        ways.append(float(np.percentile(distance[surface(one)], 95)))
    return max(ways)


def test_shifted_boxes_have_the_overlap_and_volumes_counted_by_hand() -> None:
    scores = volume_scores(box(5, 11), box(7, 11), (1.0, 2.0, 5.0))
    assert scores["dice"] == pytest.approx(2 * 4 / (6 + 4))
    assert scores["sensitivity"] == 1.0
    assert scores["volume_error"] == pytest.approx(2 * 25 * 10 / 1000)
    assert volume_scores(box(7, 11), box(5, 11), (1, 1, 1))["sensitivity"] == pytest.approx(4 / 6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 1.0, 2.0)])
def test_hausdorff_distance_is_that_of_distance_transforms_in_mm(
    spacing: tuple[float, float, float],
) -> None:
    rng = np.random.default_rng(0)
    blobs = [ndimage.gaussian_filter(rng.standard_normal((16, 18, 20)), 2) > 0.03 for _ in range(2)]
    one, other = (blob.astype(np.uint8) for blob in blobs)
    found = volume_scores(one, other, spacing)["hd95"]
    assert found == pytest.approx(hausdorff(one, other, spacing), rel=1e-5)


def test_a_perfect_mask_has_no_error() -> None:
    found = volume_scores(box(5, 9), box(5, 9), (1, 1, 1))
    assert found == {"dice": 1.0, "sensitivity": 1.0, "hd95": 0.0, "volume_error": 0.0}


def test_a_healthy_patient_without_prediction_is_right_and_has_no_distance() -> None:
    found = volume_scores(box(0, 0), box(0, 0), (1, 1, 1))
    assert found["dice"] == 1.0
    assert found["volume_error"] == 0.0
    assert math.isnan(found["sensitivity"])
    assert math.isnan(found["hd95"])


def test_a_missed_lesion_scores_zero_and_is_as_far_as_the_volume_is_wide() -> None:
    missed = volume_scores(box(0, 0), box(5, 9), (10.0, 10.0, 10.0))
    assert (missed["dice"], missed["sensitivity"], missed["volume_error"]) == (0.0, 0.0, 100.0)
    assert missed["hd95"] == pytest.approx(200 * math.sqrt(3))


def test_a_false_alarm_scores_zero_and_is_as_far_as_the_volume_is_wide() -> None:
    alarm = volume_scores(box(5, 9), box(0, 0), (1.0, 2.0, 2.0))
    assert alarm["dice"] == 0.0
    assert math.isnan(alarm["sensitivity"])
    assert alarm["hd95"] == pytest.approx(20 * 3)


def test_a_class_that_is_missed_entirely_counts_in_every_mean() -> None:
    truth, predicted = box(5, 9), box(5, 9)
    truth[15, 15, 15] = 2
    scores = volume_scores(predicted, truth, (1, 1, 1))
    assert scores["hd95"] == pytest.approx((0 + 20 * math.sqrt(3)) / 2)


def test_several_classes_are_averaged() -> None:
    truth, found = box(5, 9), box(5, 9)
    truth[15, 15, 15] = 2
    scores = volume_scores(found, truth, (1, 1, 1))
    assert scores["dice"] == pytest.approx(0.5)
    assert scores["sensitivity"] == pytest.approx(0.5)


def test_ignored_voxels_count_nowhere() -> None:
    truth, found = box(5, 9), box(5, 11)
    truth[9:] = 255
    expected = {"dice": 1.0, "sensitivity": 1.0, "hd95": 0.0, "volume_error": 0.0}
    assert volume_scores(found, truth, (1, 1, 1)) == expected
    nothing = volume_scores(found, np.full_like(truth, 255), (1, 1, 1))
    assert set(nothing) == set(expected)
    assert all(math.isnan(value) for value in nothing.values())


def test_regions_are_averaged_and_their_union_is_the_volume() -> None:
    whole, part = box(5, 9), box(5, 7)
    scores = volume_scores(np.stack([whole, whole]), np.stack([whole, part]), (1, 1, 1))
    assert scores["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["volume_error"] == 0.0
