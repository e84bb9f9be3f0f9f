import logging
import re
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import inv_ornt_aff

from datamodules.ct.space import inverse, orientation_to_ras, turn
from datamodules.ct.volume import read_ct, read_mask, save_mask
from lightning_fl.errors import DataError
from tests.datamodules.ct.scan_files import (
    SPACING,
    all_affines,
    noise,
    rotated,
    write_nifti,
    write_segmentation,
    write_series,
)


@pytest.mark.parametrize("affine", all_affines())
def test_every_orientation_is_turned_to_ras_as_nibabel_does(
    tmp_path: Path, affine: np.ndarray
) -> None:
    stored = noise()
    path = write_nifti(tmp_path / "ct.nii", stored, affine)
    ct = read_ct(path)
    reference = nib.as_closest_canonical(nib.load(path))  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(ct.hu, np.asarray(reference.dataobj))
    assert ct.hu.flags["C_CONTIGUOUS"]
    assert ct.spacing == pytest.approx(reference.header.get_zooms())
    assert ct.file_spacing == pytest.approx(SPACING)
    assert ct.shape == stored.shape
    np.testing.assert_allclose(ct.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(ct.from_ras(ct.hu), stored)
    np.testing.assert_array_equal(ct.to_ras(stored), ct.hu)


@pytest.mark.parametrize("affine", all_affines())
def test_a_mask_comes_back_as_it_was_saved_in_every_orientation(
    tmp_path: Path, affine: np.ndarray
) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise(), affine))
    mask = np.random.default_rng(3).integers(0, 4, ct.shape, dtype=np.uint8)
    save_mask(mask, ct, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", ct, classes=4), mask)
    saved: Any = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)
    np.testing.assert_allclose(saved.get_qform(), affine, atol=1e-4)
    assert saved.get_data_dtype() == np.uint8
    assert saved.header["qform_code"] == saved.header["sform_code"] == 1
    assert [path.name for path in tmp_path.glob("mask*")] == ["mask.nii.gz"]


def test_views_take_further_axes_along(tmp_path: Path) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise(), all_affines()[13]))
    both = np.stack([ct.hu, -ct.hu], axis=-1)
    stored = ct.from_ras(both)
    assert stored.shape == (*ct.shape, 2)
    assert np.shares_memory(stored, both)
    np.testing.assert_array_equal(stored[..., 1], -ct.from_ras(ct.hu))


def test_known_voxel_lands_at_its_place(tmp_path: Path) -> None:
    stored = np.full((4, 5, 6), -1000, dtype=np.int16)
    stored[1, 0, 5] = 77
    # Axes run to the feet, to the right and to the front.
    affine = np.array([[0, -2, 0, 9], [0, 0, 3, -4], [-1, 0, 0, 50], [0, 0, 0, 1.0]])
    ct = read_ct(write_nifti(tmp_path / "ct.nii", stored, affine))
    assert ct.hu.shape == (5, 6, 4)
    assert ct.spacing == (2, 3, 1)
    assert np.argwhere(ct.hu == 77).tolist() == [[4, 5, 2]]


@pytest.mark.parametrize("degrees", [10, 40, 50, 100])
def test_oblique_scan_is_turned_to_the_nearest_axes_only(tmp_path: Path, degrees: float) -> None:
    stored = noise()
    ct = read_ct(write_nifti(tmp_path / "ct.nii", stored, rotated(degrees)))
    swapped = degrees > 45
    assert ct.hu.shape == ((6, 5, 7) if swapped else (5, 6, 7))
    assert sorted(ct.hu.flat) == sorted(stored.flat)
    assert ct.spacing == pytest.approx((0.8, 0.7, 2.5) if swapped else SPACING)


def test_dicom_series_and_its_nifti_twin_are_the_same_volume(tmp_path: Path) -> None:
    stored = noise()
    write_series(tmp_path / "series", stored)
    from_dicom = read_ct(tmp_path / "series")
    twin = write_nifti(tmp_path / "twin.nii.gz", stored, from_dicom.affine)
    from_nifti = read_ct(twin)
    np.testing.assert_array_equal(from_dicom.hu, from_nifti.hu)
    assert from_dicom.spacing == pytest.approx(from_nifti.spacing)
    assert from_dicom.shape == from_nifti.shape == stored.shape
    np.testing.assert_allclose(from_dicom.affine, from_nifti.affine, atol=1e-5)


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_nifti_mask_of_a_dicom_series_may_be_turned(tmp_path: Path, number: int) -> None:
    write_series(tmp_path / "series", noise())
    ct = read_ct(tmp_path / "series")
    mask = np.random.default_rng(3).integers(0, 3, ct.shape, dtype=np.uint8)
    other = inverse(orientation_to_ras(all_affines()[number]))
    back = inv_ornt_aff(other, mask.shape)  # type: ignore[no-untyped-call]
    turned = np.ascontiguousarray(turn(mask, other))
    write_nifti(tmp_path / "mask.nii", turned, ct.affine @ back)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", ct, classes=3), mask)


def test_turned_mask_of_a_nifti_scan_is_refused(tmp_path: Path) -> None:
    affine = np.diag([*SPACING, 1.0])
    path = write_nifti(tmp_path / "ct.nii", noise(), affine)
    turned = affine @ np.array([[-1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    mask = write_nifti(tmp_path / "mask.nii", np.zeros((5, 6, 7), np.uint8), turned)
    with pytest.raises(DataError, match=r"mask\.nii lies elsewhere than its CT .*ct\.nii"):
        read_mask(mask, read_ct(path), classes=1)


@pytest.mark.parametrize("number", [1, 255, 1000, -3, 0.5])
def test_one_class_is_whatever_is_not_zero(tmp_path: Path, number: float) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    drawn = np.zeros(ct.shape)
    drawn[1, 2, 3] = number
    mask = read_mask(write_nifti(tmp_path / "mask.nii", drawn), ct, classes=1)
    assert mask.dtype == np.uint8
    assert np.argwhere(mask).tolist() == [[1, 2, 3]]
    assert mask[1, 2, 3] == 1


def test_rescaled_mask_counts_after_rescaling(tmp_path: Path) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    stored = np.random.default_rng(0).integers(0, 3, ct.shape).astype(np.int16)
    path = write_nifti(tmp_path / "mask.nii", stored, slope=2)
    np.testing.assert_array_equal(read_mask(path, ct, classes=5), stored * 2)


@pytest.mark.parametrize(
    ("numbers", "classes", "message"),
    [
        ([1, 2], 1, "holds 1, 2 beside 0, but expected 0 and one other number"),
        ([1, 4], 3, "holds 1, 4 beside 0, but expected whole numbers from 0 to 2"),
        ([0.5], 3, "holds 0.5 beside 0"),
        ([-1], 3, "holds -1 beside 0"),
        ([np.nan], 1, "holds nan beside 0"),
        (list(range(1, 10)), 3, "holds 1, 2, 3, 4, 5, 6 and others beside 0"),
    ],
)
def test_mask_with_other_numbers_is_refused(
    tmp_path: Path, numbers: list[float], classes: int, message: str
) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    drawn = np.zeros(ct.shape)
    drawn.flat[: len(numbers)] = numbers
    path = write_nifti(tmp_path / "mask.nii", drawn)
    with pytest.raises(DataError, match=rf"mask\.nii {re.escape(message)}"):
        read_mask(path, ct, classes)


def test_mask_of_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", noise())
    mask = write_nifti(tmp_path / "mask.nii", np.zeros((5, 6, 8), np.uint8))
    message = r"mask\.nii has shape \(5, 6, 8\), but its CT .*ct\.nii has \(5, 6, 7\)"
    with pytest.raises(DataError, match=message):
        read_mask(mask, read_ct(path), classes=1)


@pytest.mark.parametrize(
    ("row", "column", "change", "fits"),
    [
        (0, 3, 0.0005, True),  # 0.7 thousandths of a voxel
        (0, 3, 0.0010, False),
        (2, 2, 0.0020, True),
        (2, 2, 0.0030, False),
        (1, 0, 0.0010, False),
    ],
)
def test_affines_may_differ_by_a_thousandth_of_a_voxel(
    tmp_path: Path, row: int, column: int, change: float, fits: bool
) -> None:
    path = write_nifti(tmp_path / "ct.nii", noise())
    affine = np.diag([*SPACING, 1.0])
    affine[row, column] += change
    mask = write_nifti(tmp_path / "mask.nii", np.zeros((5, 6, 7), np.uint8), affine)
    if fits:
        read_mask(mask, read_ct(path), classes=1)
        return
    with pytest.raises(DataError, match=r"elsewhere .* their affines are \[\[0\.7"):
        read_mask(mask, read_ct(path), classes=1)


def test_small_differences_of_the_edges_may_not_add_up(tmp_path: Path) -> None:
    shape = (5, 6, 300)
    path = write_nifti(tmp_path / "ct.nii", np.zeros(shape, np.int16))
    affine = np.diag([*SPACING, 1.0])
    affine[2, 2] *= 1.0009
    mask = write_nifti(tmp_path / "mask.nii", np.zeros(shape, np.uint8), affine)
    with pytest.raises(DataError, match="lies elsewhere"):
        read_mask(mask, read_ct(path), classes=1)


def test_saving_refuses_another_shape_and_suffix(tmp_path: Path) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    with pytest.raises(DataError, match=r"of the shape \(5, 6, 7\) of .* got \(7, 6, 5\)"):
        save_mask(np.zeros((7, 6, 5), np.uint8), ct, tmp_path / "mask.nii")
    with pytest.raises(DataError, match=r"ending in \.nii or \.nii\.gz .* got .*mask\.png"):
        save_mask(np.zeros(ct.shape, np.uint8), ct, tmp_path / "mask.png")
    assert not list(tmp_path.glob("mask*"))


def test_same_mask_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    mask = np.ones(ct.shape, np.uint8)
    save_mask(mask, ct, tmp_path / "one.nii.gz")
    save_mask(np.asfortranarray(mask), ct, tmp_path / "two.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "scan.mha").touch()
    with pytest.raises(DataError, match=r"There is no .*ct\.nii; expected a CT as NIfTI"):
        read_ct(tmp_path / "ct.nii")
    with pytest.raises(DataError, match=r"Cannot tell what .*scan\.mha is; expected a CT"):
        read_ct(tmp_path / "scan.mha")
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    with pytest.raises(DataError, match=r"scan\.mha is; expected a mask as NIfTI"):
        read_mask(tmp_path / "scan.mha", ct, classes=1)


def test_dicom_segmentation_needs_a_dicom_series(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, np.ones((5, 6, 7, 1), bool))
    ct = read_ct(write_nifti(tmp_path / "ct.nii", noise()))
    with pytest.raises(DataError, match=r"mask\.dcm is a .* its CT .*ct\.nii is no DICOM series"):
        read_mask(mask, ct, classes=1)


def test_values_beyond_hu_are_clipped_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = noise().astype(np.float32)
    stored.flat[10:14] = -3024, 30000, np.nan, -1050
    with caplog.at_level(logging.WARNING):
        ct = read_ct(write_nifti(tmp_path / "ct.nii", stored))
    assert ct.hu.reshape(-1)[10:14].tolist() == [-1024, 4000, -1024, -1024]
    [record] = caplog.records
    assert "ct.nii: 1 of 210 voxels lie below -1100 HU and 1 above 4000" in record.message
    assert "1 voxels are NaN or infinite" in record.message


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_reading_takes_little_more_memory_than_the_int16_voxels(
    tmp_path: Path, dtype: type, name: str
) -> None:
    stored: np.ndarray = np.zeros((256, 256, 240), dtype=dtype)
    path = write_nifti(tmp_path / name, stored, slope=1.5, intercept=-1000)
    tracemalloc.start()
    try:
        read_ct(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    volume = stored.size * 2
    assert volume <= peak < 2 * volume  # the float32 volume alone is twice as large
