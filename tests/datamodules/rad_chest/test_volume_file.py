import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.rad_chest.preprocessing import read_volume
from lightning_fl.errors import DataError
from tests.datamodules.rad_chest.npz_volumes import save, volume


def test_a_volume_is_read_as_it_is(tmp_path: Path) -> None:
    found = read_volume(save(tmp_path / "a.npz", ct=volume(1)))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, volume(1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (volume(1) / 1000.0, r"a\.npz: `ct` is float64, but expected int16.* store np\.round"),
        (volume(1).astype(np.int32), r"a\.npz: `ct` is int32, but expected int16"),
        (volume(1)[0], r"a\.npz: `ct` has the shape \(24, 18\), but expected \(slices"),
        (volume(1)[:0], r"a\.npz: `ct` has the shape \(0, 24, 18\)"),
        (np.array([{}], dtype=object), r"a\.npz cannot be read"),
    ],
)
def test_arrays_of_another_kind(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_volume(save(tmp_path / "a.npz", ct=array))


def test_a_file_without_ct_lists_its_keys(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", image=volume(1), mask=volume(2))
    with pytest.raises(
        DataError, match=r"a\.npz holds the arrays \['image', 'mask'\]; call one 'ct'"
    ):
        read_volume(path)


@pytest.mark.parametrize("kept", [0, 10, 500, -30])
def test_a_file_that_is_cut_off(tmp_path: Path, kept: int) -> None:
    path = save(tmp_path / "a.npz", ct=volume(1))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.npz cannot be read .* cut off"):
        read_volume(path)


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", ct=volume(1))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        read_volume(path)


def test_impossible_values_are_clipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = volume(1)
    wild[0, 0, :3] = [-3024, 20000, 20000]
    with caplog.at_level(logging.WARNING):
        found = read_volume(save(tmp_path / "wild.npz", ct=wild))
    assert found[0, 0, :3].tolist() == [-1024, 4000, 4000]
    assert "wild.npz: 1 of 8640 voxels lie below -1100 HU and 2 above 4000" in caplog.text
