import logging
import re
from pathlib import Path

import numpy as np
import pytest

from datamodules.normalisation.hounsfield import limit, to_int16


@pytest.mark.parametrize(
    ("values", "expected", "lost"),
    [
        (np.array([-1000.4, 0.5, 1.5, 99999, -99999]), [-1000, 0, 2, 32767, -32768], 0),
        (np.array([np.nan, np.inf, -np.inf, 3], np.float32), [-1024, -1024, -1024, 3], 3),
        (np.array([0, 65535], np.uint16), [0, 32767], 0),
        (np.array([-40000, 40000, 7], np.int32), [-32768, 32767, 7], 0),
        (np.array([2**64 - 1], np.uint64), [32767], 0),
        (np.array([-128, 127], np.int8), [-128, 127], 0),
        (np.array([-1000, 7], ">i2"), [-1000, 7], 0),
    ],
)
def test_values_of_every_kind_become_int16(
    values: np.ndarray, expected: list[int], lost: int
) -> None:
    rounded, count = to_int16(values)
    assert rounded.tolist() == expected
    assert rounded.dtype == np.int16
    assert count == lost


def test_limits_are_air_and_metal(tmp_path: Path) -> None:
    hu = np.array([-3024, -1024, 0, 4000, 4001], np.int16)
    limit(hu, tmp_path)
    assert hu.tolist() == [-1024, -1024, 0, 4000, 4000]


@pytest.fixture
def path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.WARNING)
    return tmp_path / "ct.nii"


def volume(*values: int) -> np.ndarray:
    return np.array(values, np.int16).reshape(-1, 1, 1)


def test_usual_values_pass_in_silence(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit(volume(-1100, 0, 4000), path)
    assert not caplog.records


def test_impossible_values_are_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit(volume(-3024, -2000, -1101, 0, 4001), path)
    [record] = caplog.records
    assert record.message.startswith(
        f"{path}: 3 of 5 voxels lie below -1100 HU and 1 above 4000 (values go from -3024 to 4001)."
    )
    assert "padding" in record.message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 255), "between 0 and 255, as in a picture of 8 bits"),
        ((0, 3000), "between 0 and 3000, none below 0, .* slope and intercept"),
    ],
)
def test_values_without_air_are_no_hu(
    path: Path, caplog: pytest.LogCaptureFixture, values: tuple[int, ...], message: str
) -> None:
    limit(volume(*values), path)
    [record] = caplog.records
    assert re.search(message, record.message)


def test_lost_voxels_are_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit(volume(-1000), path, lost=12)
    [record] = caplog.records
    assert "12 voxels are NaN or infinite and are set to -1024" in record.message


def test_a_file_is_reported_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit(volume(0, 3000), path)
    limit(volume(0, 3000), path)
    limit(volume(0, 3000), path.with_name("other.nii"))
    assert len(caplog.records) == 2
