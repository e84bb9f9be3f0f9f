import re
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.orientations import inv_ornt_aff

from datamodules.readers.mask import read_mask, save_mask
from datamodules.readers.space import inverse, orientation_to_ras, turn
from datamodules.readers.volume import read_channels, read_volume
from datamodules.targets import ClassNumbers, MaskMap, Regions
from lightning_fl.errors import DataError
from tests.datamodules.readers.scan_files import (
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
    ct = read_volume(path)
    reference = nib.as_closest_canonical(nib.load(path))  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(ct.values[0], np.asarray(reference.dataobj))
    assert ct.spacing == pytest.approx(reference.header.get_zooms())
    assert ct.file_spacing == pytest.approx(SPACING)
    assert ct.shape == stored.shape
    np.testing.assert_allclose(ct.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(ct.from_ras(ct.values[0]), stored)
    np.testing.assert_array_equal(ct.to_ras(stored), ct.values[0])


@pytest.mark.parametrize("affine", all_affines())
def test_a_mask_comes_back_as_it_was_saved_in_every_orientation(
    tmp_path: Path, affine: np.ndarray
) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise(), affine))
    mask = np.random.default_rng(3).integers(0, 4, ct.shape, dtype=np.uint8)
    save_mask(mask, ct, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", ct, ClassNumbers(4)), mask)
    saved: Any = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)
    np.testing.assert_allclose(saved.get_qform(), affine, atol=1e-4)
    assert saved.get_data_dtype() == np.uint8
    assert saved.header["qform_code"] == saved.header["sform_code"] == 1
    assert [path.name for path in tmp_path.glob("mask*")] == ["mask.nii.gz"]


def test_views_take_further_axes_along(tmp_path: Path) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise(), all_affines()[13]))
    both = np.stack([ct.values[0], -ct.values[0]])
    stored = ct.from_ras(both)
    assert stored.shape == (2, *ct.shape)
    assert np.shares_memory(stored, both)
    np.testing.assert_array_equal(stored[1], -ct.from_ras(ct.values[0]))


def test_known_voxel_lands_at_its_place(tmp_path: Path) -> None:
    stored = np.full((4, 5, 6), -1000, dtype=np.int16)
    stored[1, 0, 5] = 77
    # Axes run to the feet, to the right and to the front.
    affine = np.array([[0, -2, 0, 9], [0, 0, 3, -4], [-1, 0, 0, 50], [0, 0, 0, 1.0]])
    ct = read_volume(write_nifti(tmp_path / "ct.nii", stored, affine))
    assert ct.values[0].shape == (5, 6, 4)
    assert ct.spacing == (2, 3, 1)
    assert np.argwhere(ct.values[0] == 77).tolist() == [[4, 5, 2]]


@pytest.mark.parametrize("degrees", [10, 40, 50, 100])
def test_oblique_scan_is_turned_to_the_nearest_axes_only(tmp_path: Path, degrees: float) -> None:
    stored = noise()
    ct = read_volume(write_nifti(tmp_path / "ct.nii", stored, rotated(degrees)))
    swapped = degrees > 45
    assert ct.values[0].shape == ((6, 5, 7) if swapped else (5, 6, 7))
    assert sorted(ct.values[0].flat) == sorted(stored.flat)
    assert ct.spacing == pytest.approx((0.8, 0.7, 2.5) if swapped else SPACING)


def test_dicom_series_and_its_nifti_twin_are_the_same_volume(tmp_path: Path) -> None:
    stored = noise()
    write_series(tmp_path / "series", stored)
    from_dicom = read_volume(tmp_path / "series")
    twin = write_nifti(tmp_path / "twin.nii.gz", stored, from_dicom.affine)
    from_nifti = read_volume(twin)
    np.testing.assert_array_equal(from_dicom.values, from_nifti.values)
    assert from_dicom.spacing == pytest.approx(from_nifti.spacing)
    assert from_dicom.shape == from_nifti.shape == stored.shape
    np.testing.assert_allclose(from_dicom.affine, from_nifti.affine, atol=1e-5)


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_nifti_mask_of_a_dicom_series_may_be_turned(tmp_path: Path, number: int) -> None:
    write_series(tmp_path / "series", noise())
    ct = read_volume(tmp_path / "series")
    mask = np.random.default_rng(3).integers(0, 3, ct.shape, dtype=np.uint8)
    other = inverse(orientation_to_ras(all_affines()[number]))
    back = inv_ornt_aff(other, mask.shape)  # type: ignore[no-untyped-call]
    turned = np.ascontiguousarray(turn(mask, other))
    write_nifti(tmp_path / "mask.nii", turned, ct.affine @ back)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", ct, ClassNumbers(3)), mask)


def test_mask_stored_mirrored_lies_where_it_was_drawn(tmp_path: Path) -> None:
    affine = np.diag([*SPACING, 1.0])
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[1, 2:4, 3] = 1
    mirrored = affine @ np.array([[-1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    scan = read_volume(write_nifti(tmp_path / "ct.nii", noise(), affine))
    path = write_nifti(tmp_path / "mask.nii", mask[::-1].copy(), mirrored)
    np.testing.assert_array_equal(read_mask(path, scan, ClassNumbers(1)), mask)


@pytest.mark.parametrize("noise_factor", [1 + 1e-7, 0.99998])
def test_numbers_of_a_mask_may_have_float_noise(tmp_path: Path, noise_factor: float) -> None:
    scan = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    drawn = np.random.default_rng(0).integers(0, 3, scan.shape)
    path = write_nifti(tmp_path / "mask.nii", drawn * noise_factor)
    np.testing.assert_array_equal(read_mask(path, scan, ClassNumbers(3)), drawn)


@pytest.mark.parametrize("number", [1, 255, 1000, -3, 0.5])
def test_one_class_is_whatever_is_not_zero(tmp_path: Path, number: float) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    drawn = np.zeros(ct.shape)
    drawn[1, 2, 3] = number
    mask = read_mask(write_nifti(tmp_path / "mask.nii", drawn), ct, ClassNumbers(1))
    assert mask.dtype == np.uint8
    assert np.argwhere(mask).tolist() == [[1, 2, 3]]
    assert mask[1, 2, 3] == 1


def test_rescaled_mask_counts_after_rescaling(tmp_path: Path) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    stored = np.random.default_rng(0).integers(0, 3, ct.shape).astype(np.int16)
    path = write_nifti(tmp_path / "mask.nii", stored, slope=2)
    np.testing.assert_array_equal(read_mask(path, ct, ClassNumbers(5)), stored * 2)


@pytest.mark.parametrize(
    ("numbers", "classes", "message"),
    [
        ([1, 2], 1, "holds the values [0, 1, 2], but a binary mask holds 0 and one other number"),
        ([1, 4], 3, "holds the values [4], but `classes` is 3, which allows 0 to 2"),
        ([0.5], 3, "holds the values [0.5]"),
        ([-1], 3, "holds the values [-1]"),
        ([np.nan], 1, "holds the values [0, nan]"),
        ([*range(1, 300)], 3, "holds the values [3, 4, 5, 6, 7, 8, 9, 10, ...]"),
    ],
)
def test_mask_with_other_numbers_is_refused(
    tmp_path: Path, numbers: list[float], classes: int, message: str
) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    drawn = np.zeros(ct.shape)
    drawn.flat[: len(numbers)] = numbers
    path = write_nifti(tmp_path / "mask.nii", drawn)
    with pytest.raises(DataError, match=rf"mask\.nii {re.escape(message)}"):
        read_mask(path, ct, ClassNumbers(classes))


def test_mask_of_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", noise())
    mask = write_nifti(tmp_path / "mask.nii", np.zeros((5, 6, 8), np.uint8))
    message = r"mask\.nii has shape \(5, 6, 8\), but its scan .*ct\.nii has \(5, 6, 7\)"
    with pytest.raises(DataError, match=message):
        read_mask(mask, read_volume(path), ClassNumbers(1))


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
        read_mask(mask, read_volume(path), ClassNumbers(1))
        return
    with pytest.raises(DataError, match=r"elsewhere .* their affines are \[\[0\.7"):
        read_mask(mask, read_volume(path), ClassNumbers(1))


def test_small_differences_of_the_edges_may_not_add_up(tmp_path: Path) -> None:
    shape = (5, 6, 300)
    path = write_nifti(tmp_path / "ct.nii", np.zeros(shape, np.int16))
    affine = np.diag([*SPACING, 1.0])
    affine[2, 2] *= 1.0009
    mask = write_nifti(tmp_path / "mask.nii", np.zeros(shape, np.uint8), affine)
    with pytest.raises(DataError, match="lies elsewhere"):
        read_mask(mask, read_volume(path), ClassNumbers(1))


def test_saving_refuses_another_shape_and_suffix(tmp_path: Path) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    with pytest.raises(DataError, match=r"of the shape \(5, 6, 7\) of .* got \(7, 6, 5\)"):
        save_mask(np.zeros((7, 6, 5), np.uint8), ct, tmp_path / "mask.nii")
    for name in ("mask.png", "mask.dcm"):
        with pytest.raises(DataError, match=rf"ending in \.nii or \.nii\.gz .* got .*{name}"):
            save_mask(np.zeros(ct.shape, np.uint8), ct, tmp_path / name)
    assert not list(tmp_path.glob("mask*"))


def test_same_mask_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    mask = np.ones(ct.shape, np.uint8)
    save_mask(mask, ct, tmp_path / "one.nii.gz")
    save_mask(np.asfortranarray(mask), ct, tmp_path / "two.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "scan.raw").touch()
    with pytest.raises(DataError, match=r"There is no .*ct\.nii; expected a file ending in"):
        read_volume(tmp_path / "ct.nii")
    with pytest.raises(DataError, match=r"Cannot tell what .*scan\.raw is; expected a file ending"):
        read_volume(tmp_path / "scan.raw")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compress", [False, True])
def test_itk_formats_are_the_nifti_twin(tmp_path: Path, suffix: str, compress: bool) -> None:
    affine = all_affines()[13]
    twin = write_nifti(tmp_path / "twin.nii.gz", noise(), affine)
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(twin)), str(path), useCompression=compress)
    scan, expected = read_volume(path), read_volume(twin)
    np.testing.assert_array_equal(scan.values, expected.values)
    np.testing.assert_allclose(scan.affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("vector", [False, True], ids=["four axes", "vectors"])
def test_channels_of_itk_formats(tmp_path: Path, suffix: str, vector: bool) -> None:
    stored = noise((2, 7, 6, 5)).astype(np.float64) / 7  # channels, z, y, x
    array = np.moveaxis(stored, 0, -1) if vector else stored
    image = sitk.GetImageFromArray(array, isVector=vector)
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    scan = read_volume(tmp_path / f"scan{suffix}")
    assert scan.values.dtype == np.float32
    in_file_order = scan.from_ras(scan.values)
    np.testing.assert_allclose(in_file_order, stored.transpose(0, 3, 2, 1), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("kept", [0, 300, -1])
def test_cut_off_itk_file_is_named(tmp_path: Path, suffix: str, kept: int) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(path))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"Cannot read .*scan{suffix} .*cut off or damaged"):
        read_volume(path)


def test_numpy_arrays_have_voxels_of_one_mm(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", noise())
    np.savez_compressed(tmp_path / "scan.npz", image=noise((2, 5, 6, 7)))
    scan = read_volume(tmp_path / "scan.npy")
    np.testing.assert_array_equal(scan.values[0], noise())
    assert scan.spacing == (1, 1, 1)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.npz").values, noise((2, 5, 6, 7)))


def test_arrays_of_one_npz_file_are_scans_and_masks(tmp_path: Path) -> None:
    mask = (noise() > 0).astype(np.uint8)
    scans = np.stack([noise(), noise(seed=1)])
    np.savez(tmp_path / "a.npz", image=noise(), mask=mask, scans=scans, truth=mask * 3)
    scan = read_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(scan.values[0], noise())
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npz/scans/1").values[0], scans[1])
    for name, target in (("a.npz", ClassNumbers(2)), ("a.npz/truth", MaskMap({0: 0, 3: 1}))):
        np.testing.assert_array_equal(read_mask(tmp_path / name, scan, target), mask)
    with pytest.raises(DataError, match=r"a\.npz holds the arrays \['image', .* e\.g\. .*/image"):
        read_volume(tmp_path / "a.npz/none")


def test_regions_lie_as_their_scan_does(tmp_path: Path) -> None:
    affine = all_affines()[13]
    scan = read_volume(write_nifti(tmp_path / "scan.nii", noise(), affine))
    drawn = np.random.default_rng(1).choice([0, 1, 2, 4, 9], size=scan.shape)
    path = write_nifti(tmp_path / "mask.nii", drawn.astype(np.uint8), affine)
    regions = Regions({"WT": (1, 2, 4), "ET": (4,)}, ignore=(9,))
    expected = np.where(drawn == 9, 255, [drawn > 0, drawn == 4])
    np.testing.assert_array_equal(read_mask(path, scan, regions), expected)


def test_numpy_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", ct=noise(), truth=noise())
    np.save(tmp_path / "flat.npy", noise((5, 6)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:-40])
    for name, message in (
        (
            "two.npz",
            r"holds the arrays \['ct', 'truth'\]; call one 'image', .*, e\.g\. .*two\.npz/ct",
        ),
        ("flat.npy", r"holds int16 of shape \(5, 6\)"),
        ("cut.npz", "may be cut off or damaged"),
    ):
        with pytest.raises(DataError, match=rf"{name} .*{message}"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, 1000.0, -5.0], np.int16),
        ([0.0, 60000.0], np.uint16),
        ([0.0, 1.7e6], np.float32),
        ([0.0, 0.25], np.float32),
        ([-5.0, 60000.0], np.float32),
        ([0.0, float("nan")], np.float32),
    ],
)
def test_values_have_the_smallest_type_that_holds_them(
    tmp_path: Path, values: list[float], dtype: type
) -> None:
    stored = np.zeros((5, 6, 7))
    stored.flat[: len(values)] = values
    scan = read_volume(write_nifti(tmp_path / "mr.nii", stored))
    assert scan.values.dtype == dtype
    np.testing.assert_array_equal(scan.values[0], stored.astype(np.float32))


def test_files_become_channels_in_their_order_whichever_way_they_are_stored(
    tmp_path: Path,
) -> None:
    affine = np.diag([*SPACING, 1.0])
    mirrored = affine @ np.array([[-1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    one = write_nifti(tmp_path / "t1.nii", noise(), affine)
    two = write_nifti(tmp_path / "t2.nii", noise(seed=2)[::-1].copy(), mirrored)
    np.testing.assert_array_equal(
        read_channels([one, two]).values, np.stack([noise(), noise(seed=2)])
    )
    elsewhere = write_nifti(tmp_path / "flair.nii", noise(), affine + np.eye(4)[:, [3, 3, 3, 0]])
    with pytest.raises(DataError, match=r"Channel .*flair\.nii lies elsewhere .*t1\.nii"):
        read_channels([one, elsewhere])


def test_dicom_segmentation_needs_a_dicom_series(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, np.ones((5, 6, 7, 1), bool))
    ct = read_volume(write_nifti(tmp_path / "ct.nii", noise()))
    with pytest.raises(DataError, match=r"mask\.dcm is a .* its scan .*ct\.nii is no DICOM series"):
        read_mask(mask, ct, ClassNumbers(1))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_reading_takes_twice_the_float32_size_at_most(
    tmp_path: Path, dtype: type, name: str
) -> None:
    stored: np.ndarray = np.zeros((256, 256, 120), dtype=dtype)
    path = write_nifti(tmp_path / name, stored, slope=1.5, intercept=-1000)
    tracemalloc.start()
    try:
        read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stored.size * 4 <= peak < 2 * stored.size * 4
