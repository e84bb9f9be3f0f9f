import numpy as np
import pytest

from datamodules.phantoms.geometry import (
    Ellipsoid,
    SmoothNoise,
    Space,
    Tube,
    coverage,
    image_space,
    union,
)

LEVELS = np.linspace(-60, 80, 12, dtype=np.float32)


def at(*points: tuple[float, float, float]) -> Space:
    return Space(*np.array(points, dtype=np.float32).T)


def test_sphere_and_tube_have_exact_distances() -> None:
    sphere = Ellipsoid((1, 2, 3), (10, 10, 10)).distance(at((1, 2, 3), (1, 12, 3), (1, 2, 23)))
    np.testing.assert_allclose(sphere, [10, 0, -10], atol=1e-5)
    tube = Tube((0, 0, 0), (0, 0, 10), (4, 2)).distance(at((0, 0, 0), (0, 0, 10), (5, 0, 5)))
    np.testing.assert_allclose(tube, [4, 2, -2], atol=1e-5)


def test_column_is_the_same_at_every_level() -> None:
    column = Ellipsoid((0, 0, 0), (10, 20, np.inf))
    values = column.distance(at((3, 4, -90), (3, 4, 0), (3, 4, 90)))
    assert values[0] == values[1] == values[2]


def test_coverage_is_half_on_the_edge() -> None:
    distance = np.array([-3, 0, 0.75, 3], dtype=np.float32)
    np.testing.assert_allclose(coverage(distance, 3.0), [0, 0.5, 0.75, 1])


def test_union_contains_both_shapes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-20, 20, (2, 100)).astype(np.float32)
    assert (union(a, b) >= np.maximum(a, b)).all()


@pytest.mark.parametrize("wavelength", [7.0, 26.0])
def test_noise_has_unit_variance_and_does_not_depend_on_the_grid(wavelength: float) -> None:
    noise = SmoothNoise(np.random.default_rng(0), wavelength)
    fine, some = noise(image_space(LEVELS, 96)), noise(image_space(LEVELS[3:5], 96))
    assert fine.dtype == np.float32
    assert fine.std() == pytest.approx(1.0, abs=0.15)
    np.testing.assert_allclose(some, fine[3:5], atol=1e-5)
    coarse = noise(image_space(LEVELS, 32))
    np.testing.assert_allclose(coarse, fine[:, 1::3, 1::3], atol=1e-4)
