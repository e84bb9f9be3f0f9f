import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.ct import scan_cache
from datamodules.ct.grid import ScanGrid
from datamodules.ct.scan_cache import Lesions, PreparedScan, ScanCache
from datamodules.ct.volume import CTVolume, read_ct
from lightning_fl.data.scans import ScanFiles
from lightning_fl.errors import DataError
from tests.datamodules.ct.patients import SHAPE, lesion, write_patient
from tests.datamodules.ct.scan_files import write_nifti, write_segmentation, write_series

GRID = ScanGrid((1, 1, 2), (16, 16, 16))


@pytest.fixture
def files(tmp_path: Path) -> ScanFiles:
    folder = write_patient(tmp_path / "p")
    return ScanFiles("p", folder / "ct.nii.gz", folder / "mask.nii.gz")


def store(folder: Path) -> ScanCache:
    return ScanCache(folder / "cache", GRID, 1)


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


def assert_same(scan: PreparedScan, other: PreparedScan) -> None:
    np.testing.assert_array_equal(scan.image, other.image)
    np.testing.assert_array_equal(scan.mask, other.mask)
    assert (scan.covered, scan.lesions) == (other.covered, other.lesions)


def race(folder: Path, files: ScanFiles) -> None:
    for size in range(8, 16):
        ScanCache(folder / "cache", ScanGrid((1, 1, 2), (size, 16, 16)), 1).add(files).load()


def test_second_load_reads_no_source(tmp_path: Path, files: ScanFiles) -> None:
    scan = store(tmp_path).add(files)
    first = scan.load()
    files.image.unlink()
    files.mask.unlink()
    again = scan.load()
    assert isinstance(again.image, np.memmap)
    assert isinstance(again.mask, np.memmap)
    assert_same(first, again)


def test_facts_say_where_the_scan_lies_and_what_is_lost(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[0, 0, 0] = mask[10, 10, 4] = mask[11, 10, 4] = 1
    folder = write_patient(tmp_path / "p", mask=mask)
    scan = store(tmp_path).add(ScanFiles("p", folder / "ct.nii.gz", folder / "mask.nii.gz")).load()
    # 16.8 x 16 x 20 mm are 17, 16 and 10 voxels; X loses the first, Z is padded by 3 each side
    assert scan.covered == (slice(0, 16), slice(0, 16), slice(3, 13))
    assert scan.lesions == Lesions(voxels=3, lost=0)
    narrow = ScanCache(tmp_path / "cache", ScanGrid((1, 1, 2), (8, 8, 8)), 1)
    files = ScanFiles("p", folder / "ct.nii.gz", folder / "mask.nii.gz")
    assert narrow.add(files).load().lesions == Lesions(voxels=3, lost=1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_damaged_file_is_made_again(tmp_path: Path, files: ScanFiles, which: int) -> None:
    scan = store(tmp_path).add(files)
    first = scan.load()
    first = replace(first, image=np.array(first.image), mask=np.array(first.mask))  # not mapped
    path = stored(tmp_path)[which]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert_same(first, scan.load())
    assert path.read_bytes() == whole


def test_scan_is_read_once_for_all_that_is_kept_of_it(
    tmp_path: Path, files: ScanFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []

    def counted(path: Path) -> CTVolume:
        paths.append(path)
        return read_ct(path)

    monkeypatch.setattr(scan_cache, "read_ct", counted)
    store(tmp_path).add(files).load()
    assert paths == [files.image]
    assert len(stored(tmp_path)) == 3


def test_two_processes_at_once_agree(tmp_path: Path, files: ScanFiles) -> None:
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=race, args=(tmp_path, files)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(stored(tmp_path)) == 3 * 8


def test_whatever_moves_a_voxel_moves_the_files(
    tmp_path: Path, files: ScanFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = store(tmp_path)
    variants = [
        base,
        replace(base, grid=ScanGrid((1, 1, 1), (16, 16, 16))),
        replace(base, grid=ScanGrid((1, 1, 2), (16, 16, 12))),
        replace(base, classes=256),
    ]
    for variant in variants:
        variant.add(files).load()
    assert len(stored(tmp_path)) == 3 * 4
    write_nifti(files.mask, np.zeros_like(lesion()), np.diag([-0.7, 0.8, -2.5, 1.0]))
    assert not base.add(files).load().mask.any()
    monkeypatch.setattr(scan_cache, "VERSION", 0)
    base.add(files).load()
    assert len(stored(tmp_path)) == 3 * 6


def test_series_and_segmentation_are_cached_too(tmp_path: Path) -> None:
    hu = np.full(SHAPE, -800, dtype=np.int16)
    series = write_series(tmp_path / "ct", hu)
    mask = lesion() > 0
    path = write_segmentation(tmp_path / "mask.dcm", series, mask[..., None])
    scan = store(tmp_path).add(ScanFiles("p", tmp_path / "ct", path))
    assert len(scan.stamps) == SHAPE[2] + 1
    prepared = scan.load()
    assert prepared.lesions == Lesions(int(mask.sum()), 0)
    assert (prepared.image[prepared.covered] == -800).all()


def test_missing_file_is_named(tmp_path: Path, files: ScanFiles) -> None:
    files.mask.unlink()
    with pytest.raises(DataError, match=r"Cannot find .*mask\.nii\.gz"):
        store(tmp_path).add(files)
