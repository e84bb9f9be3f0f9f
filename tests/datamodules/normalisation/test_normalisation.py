import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.normalisation import (
    Normalisation,
    Percentiles,
    SiteZScore,
    Unchanged,
    Window,
    ZScore,
)
from lightning_fl.errors import ConfigError, DataError


def tissue(scale: float = 1.0, background: int = 0) -> np.ndarray:
    """MR of 8 x 8 x 8 voxels beside some of exactly 0, as (1, X, Y, Z)."""
    values = np.random.default_rng(0).uniform(1, 2, (1, 8, 8, 8)) * scale
    around = np.zeros((1, 8, 8, background))
    return np.concatenate([values, around], axis=-1).astype(np.float32)


def shades(normalise: Normalisation, values: np.ndarray) -> torch.Tensor:
    planes = torch.from_numpy(np.moveaxis(values, -1, 1).reshape(-1, *values.shape[1:3]).copy())
    return normalise.apply(planes, normalise.measures(values))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("background", [0, 24])
def test_z_score_depends_on_neither_scale_nor_background(scale: float, background: int) -> None:
    result = shades(ZScore(), tissue(scale, background))[:8]
    assert float(result.mean()) == pytest.approx(0, abs=1e-4)
    assert float(result.std(correction=0)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("normalise", [ZScore(), Percentiles(), SiteZScore()])
@pytest.mark.parametrize("value", [0.0, 1e4])
def test_constant_scan_becomes_finite(normalise: Normalisation, value: float) -> None:
    result = shades(normalise, np.full((1, 4, 4, 4), value, np.float32))
    assert float(result.abs().max()) <= 1


def test_percentiles_span_zero_to_one_whatever_is_brighter() -> None:
    values = tissue(100, background=4)
    plain = shades(Percentiles(1, 99), values)
    assert (float(plain.min()), float(plain.max())) == (0, 1)
    low, high = np.percentile(values[values != 0], (1, 99))
    np.testing.assert_allclose(Percentiles(1, 99).measures(values), [[low, high - low]], rtol=1e-6)
    values[0, 0, 0, 0] = 1e6  # a vessel
    brighter = shades(Percentiles(1, 99), values)
    torch.testing.assert_close(brighter[1:], plain[1:], atol=0.02, rtol=0)


def test_window_becomes_zero_to_one() -> None:
    hu = np.array([-2000, -1350, -975, -600, 150, 3000], np.float32).reshape(1, 1, 1, 6)
    expected = torch.tensor([0, 0, 0.25, 0.5, 1, 1])
    torch.testing.assert_close(shades(Window(-600, 1500), hu).flatten(), expected)


def test_unchanged_is_unchanged() -> None:
    values = tissue()
    assert torch.equal(shades(Unchanged(), values)[0], torch.from_numpy(values[0, ..., 0]))


def test_channels_have_numbers_of_their_own() -> None:
    both = np.concatenate([tissue(1.0), tissue(1000.0) + 5])
    result = shades(ZScore(), both)
    torch.testing.assert_close(result[:8], result[8:], atol=1e-3, rtol=0)


def test_site_z_score_is_that_of_all_training_voxels() -> None:
    scans = [tissue(1.0), tissue(2.0), tissue(5.0)]
    fitted = SiteZScore().fitted([ZScore().measures(scan) for scan in scans])
    together = np.stack(scans).astype(np.float64)
    assert fitted.means == pytest.approx([together.mean()])
    assert fitted.sds == pytest.approx([together.std()])
    # so the same number is the same shade in every scan
    factor = shades(fitted, scans[1]) - shades(fitted, scans[0])
    expected = torch.from_numpy(np.moveaxis(scans[0][0], -1, 0)) / fitted.sds[0]
    torch.testing.assert_close(factor, expected.float(), atol=1e-5, rtol=0)


def test_site_without_training_patients_takes_each_scans_own_numbers() -> None:
    assert torch.equal(shades(SiteZScore(), tissue(3.0)), shades(ZScore(), tissue(3.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 1, 64), "All values lie between 0 and 1, as in a picture of 8 bits"),
        (np.arange(64) * 900, "All values lie between 0 and 56700, none below 0"),
    ],
)
def test_window_refuses_what_cannot_be_hu(values: np.ndarray, message: str, tmp_path: Path) -> None:
    scan = values.reshape(1, 4, 4, 4)
    with pytest.raises(DataError, match=rf"mr\.nii: {message}.*set `modality` to MR"):
        Window().prepare(scan, tmp_path / "mr.nii")
    assert ZScore().prepare(scan, tmp_path / "mr.nii") is scan


def test_voxels_that_are_no_numbers_become_background_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = tissue()
    values[0, 0, 0, :2] = np.nan, np.inf
    with caplog.at_level(logging.WARNING):
        prepared = ZScore().prepare(values, tmp_path / "mr.nii")
    assert prepared[0, 0, 0, :2].tolist() == [0, 0]
    assert prepared.dtype == np.float32
    assert "mr.nii: 2 of 512 voxels are NaN or infinite" in caplog.text


def test_impossible_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="`width` to be positive, but got 0"):
        Window(width=0)
    with pytest.raises(ConfigError, match="percentiles from 0 to 100, but got 99 and 1"):
        Percentiles(99, 1)


@pytest.mark.parametrize("normalise", [ZScore(), Percentiles(), Window(), Unchanged()])
def test_pictures_have_shades_from_zero_to_one(normalise: Normalisation) -> None:
    picture = normalise.picture(shades(normalise, tissue(300.0) - 600))
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
