import numpy as np
import pytest

from datamodules.phantoms.geometry import FIELD_OF_VIEW
from datamodules.phantoms.scanner import Scanner, dose_noise, export, reconstruct, scan, sublevels

PIXEL = FIELD_OF_VIEW / 64


def edge() -> np.ndarray:
    hu = np.full((1, 64, 64), -850, dtype=np.float32)
    hu[:, :, 32:] = 50
    return hu


def test_window_maps_its_ends_to_black_and_white() -> None:
    hu = np.array([-1400, -1350, -600, 150, 900], dtype=np.float32)
    np.testing.assert_array_equal(export(hu, Scanner()), [0, 0, 128, 255, 255])


def test_soft_kernel_blurs_and_sharp_kernel_overshoots() -> None:
    soft = reconstruct(edge(), Scanner(blur=PIXEL))
    sharp = reconstruct(edge(), Scanner(blur=0.5, overshoot=1.0))
    assert -850 <= soft.min() < soft.max() <= 50.01
    assert np.abs(np.diff(soft[0, 32])).max() < 450
    assert sharp.min() < -870
    assert sharp.max() > 70


def test_noise_has_the_given_strength_in_the_middle() -> None:
    noise = dose_noise((40, 64, 64), Scanner(noise=50), np.random.default_rng(0))
    assert noise[:, 28:36, 28:36].std() == pytest.approx(50, rel=0.1)
    assert noise[:, :4, :4].std() < 25


def test_noise_of_a_soft_kernel_is_correlated() -> None:
    rng = np.random.default_rng(0)
    noise = dose_noise((20, 64, 64), Scanner(blur=2 * PIXEL), rng)
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.6


def test_calibration_errors_shift_and_stretch() -> None:
    flat = np.full((3, 64, 64), -500, dtype=np.float32)
    quiet = Scanner(noise=0.0, offset=60, gain=0.9, level=-390, width=1000)
    assert np.unique(scan(flat, quiet, np.random.default_rng(0))).tolist() == [128]


def test_slice_is_the_mean_of_its_thin_images() -> None:
    thin = np.repeat(np.array([-900, -600, -300], dtype=np.float32), 64 * 64).reshape(3, 64, 64)
    image = scan(thin, Scanner(noise=0.0), np.random.default_rng(0))
    assert np.unique(image).tolist() == [128]


def test_thin_images_span_the_slice_and_the_middle_one_is_its_level() -> None:
    levels = np.array([0, 14], dtype=np.float32)
    np.testing.assert_allclose(sublevels(levels, 6.0), [-2, 0, 2, 12, 14, 16])
