import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datamodules.readers import nifti
from datamodules.readers.volume import read_volume
from lightning_fl.errors import DataError
from tests.datamodules.readers.scan_files import SPACING, noise, write_nifti


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "<i4", "<f4", "<f8", "|i1", "|u1"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1024), (0.25, 10)])
def test_values_are_those_of_nibabel(
    tmp_path: Path, name: str, dtype: str, slope: float, intercept: float
) -> None:
    stored = (np.abs(noise()) % 120).astype(dtype)
    path = write_nifti(tmp_path / name, stored, slope=slope, intercept=intercept)
    expected = nib.load(path).get_fdata()  # type: ignore[attr-defined]
    np.testing.assert_allclose(read_volume(path).values[0], expected, rtol=1e-6)


def test_slabs_cover_the_volume_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "SLAB", 60)  # two slices of 30
    stored = noise()
    values, _ = nifti.read_nifti(write_nifti(tmp_path / "ct.nii.gz", stored))
    np.testing.assert_array_equal(values[0], stored)


@pytest.mark.parametrize("shape", [(5, 6, 7, 2), (5, 6, 7, 1, 2)])
def test_further_axis_becomes_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = noise(shape)
    scan = read_volume(write_nifti(tmp_path / "mr.nii.gz", stored))
    assert scan.shape == (5, 6, 7)
    np.testing.assert_array_equal(scan.values, np.moveaxis(stored.reshape(5, 6, 7, 2), -1, 0))


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)], ids=["metre", "micron"])
def test_other_units_become_millimetres(tmp_path: Path, unit: int, factor: float) -> None:
    affine = np.diag([*SPACING, 1.0])
    affine[:3] *= factor
    path = write_nifti(tmp_path / "ct.nii", noise(), affine)
    content = bytearray(path.read_bytes())
    content[123] = unit  # xyzt_units
    path.write_bytes(bytes(content))
    assert read_volume(path).spacing == pytest.approx(SPACING)


def test_quaternion_a_hair_too_long_names_the_file(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", noise())
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<hh", 1, 0)  # qform_code and sform_code
    content[256:268] = struct.pack("<fff", 0.8, 0.6, 0.0006)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"Cannot read .*ct\.nii as NIfTI"):
        read_volume(path)


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    stored = noise((5, 6, 7, 1, 1))
    ct = read_volume(write_nifti(tmp_path / "ct.nii", stored))
    np.testing.assert_array_equal(ct.values[0], stored[..., 0, 0])


def test_nifti_2_is_read(tmp_path: Path) -> None:
    affine = np.diag([*SPACING, 1.0])
    image = nib.Nifti2Image(noise(), affine)  # type: ignore[no-untyped-call]
    (tmp_path / "ct.nii").write_bytes(image.to_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "ct.nii").values[0], noise())


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 2, 3)])
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_nifti(tmp_path / "ct.nii", noise(shape))
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path} has shape {shape}; expected three dimensions")


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, 352, 400, -1])
def test_cut_off_file_is_named(tmp_path: Path, name: str, kept: int) -> None:
    path = write_nifti(tmp_path / name, np.random.default_rng(0).normal(size=(5, 6, 7)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"Cannot read .*{name} as NIfTI .* cut off or damaged"):
        read_volume(path)


def test_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii.gz", noise((40, 40, 40)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum, so that all voxels unpack
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"ct\.nii\.gz as NIfTI \(CRC check failed"):
        read_volume(path)


@pytest.mark.parametrize(
    "content", [b"no picture" * 100, gzip.compress(b"no picture" * 100)], ids=["plain", "packed"]
)
def test_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("ct.nii" if content.startswith(b"no") else "ct.nii.gz")
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"Cannot read .*{path.name} as NIfTI"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, dtype: type) -> None:
    path = write_nifti(tmp_path / "ct.nii", np.zeros((5, 6, 7), dtype))
    with pytest.raises(DataError, match=r"ct\.nii holds .* not one real number a voxel"):
        read_volume(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((0, 0, 0.0), "gives them no size"),
        ((1, 3, np.nan), "is not finite"),
        ((0, 1, 0.1), "do not stand at right angles"),
    ],
)
def test_affine_that_cannot_be_is_refused(
    tmp_path: Path, change: tuple[int, int, float], message: str
) -> None:
    affine = np.diag([*SPACING, 1.0])
    affine[change[0], change[1]] = change[2]
    path = tmp_path / "ct.nii"
    content = bytearray(write_nifti(path, noise()).read_bytes())
    content[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y and srow_z
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"ct\.nii .*{message}"):
        read_volume(path)


def test_direction_cosines_rounded_to_three_digits_are_right_angles(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:2, :2] = [[0.906, -0.423], [0.422, 0.906]]
    read_volume(write_nifti(tmp_path / "ct.nii", noise(), affine))
