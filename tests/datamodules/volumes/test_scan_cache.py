import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.index.row import Row
from datamodules.normalisation import Percentiles, Window, ZScore
from datamodules.readers.volume import ScanVolume, read_channels
from datamodules.targets import ClassNumbers, Threshold
from datamodules.volumes import scan_cache
from datamodules.volumes.grid import ScanGrid
from datamodules.volumes.scan_cache import Lesions, PreparedScan, ScanCache
from lightning_fl.errors import DataError
from tests.datamodules.readers.scan_files import write_nifti, write_segmentation, write_series
from tests.datamodules.volumes.patients import SHAPE, lesion, row_of, write_patient

GRID = ScanGrid((1, 1, 2), (16, 16, 16))


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return row_of(write_patient(tmp_path / "p"))


def store(folder: Path) -> ScanCache:
    return ScanCache(folder / "cache", GRID, ClassNumbers(), Window())


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


def assert_same(scan: PreparedScan, other: PreparedScan) -> None:
    np.testing.assert_array_equal(scan.image, other.image)
    np.testing.assert_array_equal(scan.mask, other.mask)
    assert (scan.covered, scan.lesions) == (other.covered, other.lesions)


def race(folder: Path, row: Row) -> None:
    for size in range(8, 16):
        ScanCache(
            folder / "cache", ScanGrid((1, 1, 2), (size, 16, 16)), ClassNumbers(), Window()
        ).add(row).load()


def test_second_load_reads_no_source(tmp_path: Path, row: Row) -> None:
    scan = store(tmp_path).add(row)
    first = scan.load()
    row.images[0].unlink()
    assert row.mask
    row.mask.unlink()
    again = scan.load()
    assert isinstance(again.image, np.memmap)
    assert isinstance(again.mask, np.memmap)
    assert_same(first, again)


def test_facts_say_where_the_scan_lies_and_what_is_lost(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[0, 0, 0] = mask[10, 10, 4] = mask[11, 10, 4] = 1
    folder = write_patient(tmp_path / "p", mask=mask)
    row = row_of(folder)
    scan = store(tmp_path).add(row).load()
    # 16.8 x 16 x 20 mm are 17, 16 and 10 voxels; X loses the first, Z is padded by 3 each side
    assert scan.covered == (slice(0, 16), slice(0, 16), slice(3, 13))
    assert scan.lesions == Lesions(voxels=3, lost=0)
    narrow = ScanCache(tmp_path / "cache", ScanGrid((1, 1, 2), (8, 8, 8)), ClassNumbers(), Window())
    assert narrow.add(row).load().lesions == Lesions(voxels=3, lost=1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_damaged_file_is_made_again(tmp_path: Path, row: Row, which: int) -> None:
    scan = store(tmp_path).add(row)
    first = scan.load()
    first = replace(first, image=np.array(first.image), mask=np.array(first.mask))  # not mapped
    path = stored(tmp_path)[which]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert_same(first, scan.load())
    assert path.read_bytes() == whole


def test_scan_is_read_once_for_all_that_is_kept_of_it(
    tmp_path: Path, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []

    def counted(files: Sequence[Path]) -> ScanVolume:
        paths.extend(files)
        return read_channels(files)

    monkeypatch.setattr(scan_cache, "read_channels", counted)
    store(tmp_path).add(row).load()
    assert paths == list(row.images)
    assert len(stored(tmp_path)) == 3


def test_two_processes_at_once_agree(tmp_path: Path, row: Row) -> None:
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=race, args=(tmp_path, row)) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=300)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(stored(tmp_path)) == 3 * 8


def test_whatever_moves_a_voxel_moves_the_files(
    tmp_path: Path, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = store(tmp_path)
    variants = [
        base,
        replace(base, grid=ScanGrid((1, 1, 1), (16, 16, 16))),
        replace(base, grid=ScanGrid((1, 1, 2), (16, 16, 12))),
        replace(base, target=Threshold()),
    ]
    for variant in variants:
        variant.add(row).load()
    assert len(stored(tmp_path)) == 3 * 4 - 1  # another target takes the same image
    assert row.mask
    write_nifti(row.mask, np.zeros_like(lesion()), np.diag([-0.7, 0.8, -2.5, 1.0]))
    assert not base.add(row).load().mask.any()
    monkeypatch.setattr(scan_cache, "VERSION", 0)
    base.add(row).load()
    assert len(stored(tmp_path)) == 3 * 6 - 1


def test_series_and_segmentation_are_cached_too(tmp_path: Path) -> None:
    hu = np.full(SHAPE, -800, dtype=np.int16)
    series = write_series(tmp_path / "ct", hu)
    mask = lesion() > 0
    path = write_segmentation(tmp_path / "mask.dcm", series, mask[..., None])
    scan = store(tmp_path).add(replace(row_of(tmp_path), images=(tmp_path / "ct",), mask=path))
    assert len(scan.stamps) == SHAPE[2] + 1
    prepared = scan.load()
    assert prepared.lesions == Lesions(int(mask.sum()), 0)
    assert (prepared.image[0][prepared.covered] == -800).all()


def test_missing_file_is_named(tmp_path: Path, row: Row) -> None:
    assert row.mask
    row.mask.unlink()
    with pytest.raises(DataError, match=r"Cannot find .*mask\.nii\.gz"):
        store(tmp_path).add(row)


def test_another_normalisation_reuses_the_voxels_it_can(tmp_path: Path, row: Row) -> None:
    base = replace(store(tmp_path), normalise=ZScore())
    base.add(row).load()
    assert len(stored(tmp_path)) == 3
    replace(base, normalise=Percentiles()).add(row).load()
    assert len(stored(tmp_path)) == 4  # image and mask are the same, the measures are others
    replace(base, normalise=Window()).add(row).load()
    assert len(stored(tmp_path)) == 6  # whole HU are another image


def test_mr_values_are_kept_without_loss(tmp_path: Path, row: Row) -> None:
    for values in (np.linspace(0, 1, 3840), np.linspace(0, 1.7e6, 3840).round()):
        mr = values.astype(np.float32).reshape(SHAPE)
        write_nifti(row.images[0], mr, np.diag([1.0, 1.0, 2.0, 1.0]))
        assert row.mask
        write_nifti(row.mask, lesion(), np.diag([1.0, 1.0, 2.0, 1.0]))
        cache = ScanCache(
            tmp_path / "cache", ScanGrid((1, 1, 2), SHAPE), ClassNumbers(), ZScore(), "MR"
        )
        scan = cache.add(row).load()
        np.testing.assert_array_equal(scan.image[0], mr)
        tissue = mr[mr != 0].astype(np.float64)
        np.testing.assert_allclose(scan.measures, [[tissue.mean(), tissue.std()]])
