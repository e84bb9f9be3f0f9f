import re

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import center_of_mass
from torch import Tensor

from datamodules.volumes.axis import Axis
from datamodules.volumes.grid import Placement, ScanGrid
from lightning_fl.errors import ConfigError

Shape = tuple[int, int, int]
Mask = npt.NDArray[np.uint8]


def ball(shape: Shape, spacing: tuple[float, ...], centre: tuple[float, ...], mm: float) -> Mask:
    """A ball; its centre in voxel indices."""
    where = np.indices(shape)
    squares = [((i - c) * edge) ** 2 for i, c, edge in zip(where, centre, spacing, strict=True)]
    inside: Mask = (np.sum(squares, axis=0) < mm**2).astype(np.uint8)
    return inside


def above_half(probabilities: Tensor) -> Tensor:
    return probabilities[:, 0] > 0.5


def back(placement: Placement, mask: Mask) -> Mask:
    return placement.back(torch.from_numpy(mask)[None].float(), above_half)


def dice(one: Mask, other: Mask) -> float:
    return float(2 * np.count_nonzero(one & other) / (one.sum() + other.sum()))


CASES = [
    (
        (64, 56, 30),
        (1.0, 1.0, 2.5),
        ScanGrid((1.5, 1.5, 1.5), (48, 48, 64)),
    ),  # cut in X, padded in Z
    ((50, 50, 50), (2.0, 2.0, 2.0), ScanGrid((1.0, 1.0, 1.0), (96, 112, 101))),  # finer; odd
    ((61, 47, 83), (0.7, 0.9, 1.25), ScanGrid((1.0, 1.0, 1.0), (64, 64, 64))),  # cut in Z only
]


@pytest.mark.parametrize(("shape", "spacing", "grid"), CASES)
def test_ball_comes_back_where_it_was(
    shape: Shape, spacing: tuple[float, float, float], grid: ScanGrid
) -> None:
    centre = (shape[0] / 2 + 3.3, shape[1] / 2 - 4.2, shape[2] / 2 + 1.7)
    mask = ball(shape, spacing, centre, mm=14)
    placement = grid.place(shape, spacing)
    again = back(placement, placement.mask(mask))
    assert dice(mask, again) > 0.97
    np.testing.assert_allclose(center_of_mass(again), center_of_mass(mask), atol=0.2)


@pytest.mark.parametrize(("shape", "spacing", "grid"), CASES)
def test_ball_lies_on_the_grid_where_its_mm_say(
    shape: Shape, spacing: tuple[float, float, float], grid: ScanGrid
) -> None:
    centre = (shape[0] / 2 + 3.3, shape[1] / 2 - 4.2, shape[2] / 2 + 1.7)
    mask = ball(shape, spacing, centre, mm=14)
    placement = grid.place(shape, spacing)
    found = center_of_mass(placement.mask(mask))
    bright = placement.image(np.where(mask == 1, 1000, -1024).astype(np.int16), np.int16, -1024)
    # from the middle of the scan, which is the middle of the grid but for an odd voxel
    mm = [(c + 0.5 - n / 2) * edge for c, n, edge in zip(centre, shape, spacing, strict=True)]
    for values in (found, center_of_mass(bright.astype(float) + 1024)):
        ours = [
            (v + 0.5 - n / 2) * e for v, n, e in zip(values, grid.shape, grid.spacing, strict=True)
        ]
        np.testing.assert_allclose(ours, mm, atol=0.75 * max(grid.spacing))


def test_volume_of_a_ball_is_kept() -> None:
    mask = ball((60, 60, 60), (1, 1, 1), (31, 29, 30), mm=15)
    on_grid = ScanGrid((1.7, 1.7, 2.9), (40, 40, 24)).place((60, 60, 60), (1, 1, 1)).mask(mask)
    x, y, z = (60 / round(60 / edge) for edge in (1.7, 1.7, 2.9))
    assert on_grid.sum() * x * y * z == pytest.approx(mask.sum(), rel=0.02)


def test_same_spacing_cuts_and_pads_without_touching_a_value() -> None:
    hu = np.random.default_rng(0).integers(-1024, 3000, (6, 4, 5), dtype=np.int16)
    placement = ScanGrid((1, 1, 1), (4, 8, 5)).place((6, 4, 5), (1, 1, 1))
    image = placement.image(hu, np.int16, -1024)
    np.testing.assert_array_equal(image[:, 2:6], hu[1:5])
    assert (image[:, :2] == -1024).all()
    assert (image[:, 6:] == -1024).all()
    assert placement.covered == (slice(0, 4), slice(2, 6), slice(0, 5))
    assert placement.reached == (slice(1, 5), slice(0, 4), slice(0, 5))


def test_values_of_half_the_resolution_are_means() -> None:
    hu = np.zeros((8, 4, 4), dtype=np.int16)
    hu[4:] = 100
    image = ScanGrid((2, 2, 2), (4, 2, 2)).place((8, 4, 4), (1, 1, 1)).image(hu, np.int16, 0)
    # a triangle of width 4 over the steps: weights 1/8, 3/8, 3/8, 1/8
    np.testing.assert_array_equal(image[:, 0, 0], [0, 12, 88, 100])


def test_slabs_meet_without_a_seam() -> None:
    shape = (40, 8, 70)
    ramp = (np.arange(40)[:, None, None] * 10 + np.arange(70) * 20 + np.zeros(shape)).astype("i2")
    image = ScanGrid((2, 1, 2), (20, 8, 35)).place(shape, (1, 1, 1)).image(ramp, np.int16, 0)
    inner = image[2:-2, :, 2:-2].astype(int)
    assert (np.diff(inner, axis=0) == 20).all()
    assert (np.diff(inner, axis=2) == 40).all()


def test_outside_the_grid_is_background() -> None:
    placement = ScanGrid((1, 1, 1), (4, 4, 4)).place((8, 6, 3), (1, 1, 1))
    expected = np.zeros((8, 6, 3), dtype=np.uint8)
    expected[2:6, 1:5] = 1
    np.testing.assert_array_equal(back(placement, np.ones((4, 4, 4), np.uint8)), expected)


def test_coarse_grid_reaches_voxels_up_to_its_edge() -> None:
    placement = ScanGrid((2, 2, 2), (2, 2, 2)).place((10, 4, 4), (1, 1, 1))
    classes = back(placement, np.ones((2, 2, 2), np.uint8))
    # 5 voxels of 2 mm, the first 2 and the last 1 are cut off: own voxels 4 to 7
    np.testing.assert_array_equal(classes.any(axis=(1, 2)), np.isin(np.arange(10), [4, 5, 6, 7]))


def test_grid_that_misses_every_centre_gives_background() -> None:
    placement = ScanGrid((1, 1, 1), (4, 4, 4)).place((2, 4, 4), (50, 1, 1))
    assert placement.reached[0] == slice(0, 0)
    assert not back(placement, np.ones((4, 4, 4), np.uint8)).any()


def test_several_classes_keep_their_places() -> None:
    shape: Shape = (40, 40, 40)
    mask = ball(shape, (1, 1, 1), (20, 20, 20), mm=14)
    mask[:, :24] *= 2  # an edge between two voxels of the grid
    placement = ScanGrid((1.6, 1.6, 1.6), (24, 28, 24)).place(shape, (1, 1, 1))
    on_grid = placement.mask(mask)
    one_hot = torch.stack([torch.from_numpy(on_grid) == label for label in range(3)]).float()
    again = placement.back(one_hot, lambda p: p.argmax(dim=1))
    for label in (1, 2):
        assert dice((mask == label).astype(np.uint8), (again == label).astype(np.uint8)) > 0.93


def test_class_that_covers_most_of_a_voxel_wins() -> None:
    mask = np.zeros((6, 1, 1), dtype=np.uint8)
    mask[:, 0, 0] = [1, 1, 2, 2, 2, 0]
    placement = ScanGrid((6, 1, 1), (1, 1, 1)).place((6, 1, 1), (1, 1, 1))
    assert placement.mask(mask).item() == 2
    mask[:, 0, 0] = [1, 1, 255, 0, 0, 0]
    assert placement.mask(mask).item() == 0
    mask[:, 0, 0] = [1, 1, 255, 255, 255, 0]
    assert placement.mask(mask).item() == 255


def test_each_region_is_resampled_as_a_mask_of_one_class() -> None:
    mask = ball((30, 30, 30), (1, 1, 1), (15, 14, 16), mm=8)
    regions = np.stack([mask, ball((30, 30, 30), (1, 1, 1), (15, 14, 16), mm=4)])
    placement = ScanGrid((1.3, 1.3, 1.3), (24, 24, 24)).place((30, 30, 30), (1, 1, 1))
    for region, on_grid in zip(regions, placement.mask(regions), strict=True):
        np.testing.assert_array_equal(on_grid, placement.mask(region))


def test_scan_of_one_slice_becomes_at_least_one() -> None:
    assert ScanGrid((1, 1, 2), (4, 4, 4)).place((4, 4, 1), (1, 1, 0.5)).z == Axis(1, 1, 4)


@pytest.mark.parametrize("spacing", [(1, 0, 1), (1, -1, 1), (1, 1), (1, float("nan"), 1)])
def test_impossible_spacing_is_named(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="`spacing`.*got " + re.escape(str(spacing))):
        ScanGrid(spacing, (4, 4, 4))


@pytest.mark.parametrize("shape", [(4, 0, 4), (4, 4)])
def test_impossible_shape_is_named(shape: Shape) -> None:
    with pytest.raises(ConfigError, match="`shape`.*got " + re.escape(str(shape))):
        ScanGrid((1, 1, 1), shape)
