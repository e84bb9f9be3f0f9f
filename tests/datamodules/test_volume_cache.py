import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from datamodules.volume_cache import cache_path, cached, stamps
from lightning_fl.errors import DataError

Array = npt.NDArray[np.int16]
SHAPE = (3, 4, 5)


def ramp() -> Array:
    return np.arange(60, dtype=np.int16).reshape(SHAPE)


def never() -> Array:
    raise AssertionError("made again")


def get(folder: Path, make: Callable[[], Array] = ramp, key: object = "key") -> Array:
    return cached(folder, key, make, SHAPE, np.int16)


def make_many(folder: Path) -> None:
    for key in range(20):
        get(folder, key=key)


def test_second_time_is_read_and_not_made(tmp_path: Path) -> None:
    get(tmp_path)
    read = get(tmp_path, never)
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, ramp())


@pytest.mark.parametrize("make", [ramp, never])
def test_array_cannot_be_written(tmp_path: Path, make: Callable[[], Array]) -> None:
    get(tmp_path)
    if make is ramp:
        cache_path(tmp_path, "key").unlink()
    with pytest.raises(ValueError, match="read-only"):
        get(tmp_path, make)[0] = 1


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "shape", "dtype"])
def test_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    get(tmp_path)
    path = cache_path(tmp_path, "key")
    whole = path.read_bytes()
    if damage == "shape":
        np.save(path, ramp()[:2])
    elif damage == "dtype":
        np.save(path, ramp().astype(np.int32))
    else:
        path.write_bytes({"empty": b"", "cut": whole[:-7], "garbage": b"\0" * len(whole)}[damage])
    np.testing.assert_array_equal(get(tmp_path), ramp())
    assert path.read_bytes() == whole


def test_failed_making_or_writing_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    with pytest.raises(AssertionError, match="made again"):
        get(tmp_path, never)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DataError, match=r"No space left.*Set `cache_dir`"):
        get(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_names_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DataError, match="Set `cache_dir`"):
        get(blocked)


def test_two_processes_at_once_agree(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=make_many, args=(tmp_path,)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 20
    np.testing.assert_array_equal(get(tmp_path, never, key=7), ramp())


def test_stamps_change_with_a_file_of_a_folder_and_only_then(tmp_path: Path) -> None:
    series, mask = tmp_path / "series", tmp_path / "mask"
    series.mkdir()
    for file in (series / "1", series / "2", mask):
        file.write_bytes(b"ab")
    before = stamps(series, mask)
    assert [Path(path).name for path, _, _ in before] == ["1", "2", "mask"]
    assert stamps(series, mask) == before
    (series / "2").write_bytes(b"abc")
    assert stamps(series, mask) != before
    (series / "2").write_bytes(b"ab")
    os.utime(series / "2", ns=(0, before[1][2]))
    assert stamps(series, mask) == before
    os.utime(series / "2", ns=(0, before[1][2] + 1))
    assert stamps(series, mask) != before


def test_stamp_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot find .*gone\.nii: No such file"):
        stamps(tmp_path / "gone.nii")
