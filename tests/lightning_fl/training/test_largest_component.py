import numpy as np

from lightning_fl.training.largest_component import keep_largest_component


def test_each_class_keeps_its_largest_part_and_corners_touch() -> None:
    mask = np.array([[1, 0, 2, 2], [0, 1, 0, 0], [0, 0, 0, 2], [1, 0, 1, 0]], dtype=np.uint8)
    kept = keep_largest_component(mask)
    assert kept.tolist() == [[1, 0, 2, 2], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert kept.dtype == np.uint8


def test_parts_of_a_volume_are_connected_across_slices() -> None:
    volume = np.zeros((3, 3, 3), dtype=np.uint8)
    volume[:, 0, 0] = 1
    volume[0, 2, :2] = 1
    expected = np.zeros_like(volume)
    expected[:, 0, 0] = 1
    assert np.array_equal(keep_largest_component(volume), expected)


def test_regions_are_searched_one_by_one_and_an_empty_one_stays_empty() -> None:
    mask = np.array([[[1, 0, 1, 1]], [[0, 0, 0, 0]]], dtype=np.uint8)
    kept = keep_largest_component(mask, regions=True)
    assert kept.tolist() == [[[0, 0, 1, 1]], [[0, 0, 0, 0]]]
