import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from datamodules import volume_cache
from datamodules.phantoms import slice_cache
from datamodules.phantoms.patient import Patient, render
from datamodules.phantoms.profiles import PROFILES, REFERENCE
from datamodules.phantoms.slice_cache import load
from lightning_fl.errors import DataError

PATIENT = Patient(seed=1, slices=2, size=32, profile=REFERENCE)


def cache_path(folder: Path, patient: Patient) -> Path:
    return volume_cache.cache_path(folder, (slice_cache.VERSION, patient))


def load_six(folder: Path) -> None:
    for seed in range(6):
        load(folder, Patient(seed, 2, 32, REFERENCE))


def test_second_load_reads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(tmp_path, PATIENT)
    monkeypatch.delattr(slice_cache, "render")
    read = load(tmp_path, PATIENT)
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, made)


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "other"])
def test_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    made = np.array(load(tmp_path, PATIENT))  # a copy, not mapped from the file that is damaged
    path = cache_path(tmp_path, PATIENT)
    whole = path.read_bytes()
    if damage == "other":
        np.save(path, np.zeros((2, 2, 8, 8)))
    else:
        path.write_bytes({"empty": b"", "cut": whole[:-7], "garbage": b"\0" * len(whole)}[damage])
    np.testing.assert_array_equal(load(tmp_path, PATIENT), made)
    assert path.read_bytes() == whole


def test_failed_writing_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DataError, match="Set `cache_dir`"):
        load(tmp_path, PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_names_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DataError, match="Set `cache_dir`"):
        load(blocked, PATIENT)


def test_two_processes_at_once_agree(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=load_six, args=(tmp_path,)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 6
    np.testing.assert_array_equal(load(tmp_path, PATIENT), render(PATIENT))


def test_whatever_moves_a_pixel_moves_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("cache")
    variants = [
        PATIENT,
        Patient(2, 2, 32, REFERENCE),
        Patient(1, 3, 32, REFERENCE),
        Patient(1, 2, 33, REFERENCE),
        Patient(1, 2, 32, PROFILES["B"]),
    ]
    paths = {cache_path(folder, variant) for variant in variants}
    monkeypatch.setattr(slice_cache, "VERSION", 0)
    paths.add(cache_path(folder, PATIENT))
    assert len(paths) == 6
