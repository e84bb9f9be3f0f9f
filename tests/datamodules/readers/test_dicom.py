from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, MRImageStorage, RLELossless, generate_uid

from datamodules.readers.dicom import open_series
from datamodules.readers.space import edges
from datamodules.readers.volume import read_volume
from lightning_fl.errors import DataError
from tests.datamodules.readers.scan_files import AXIAL, SPACING, edit, noise, write_series

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
OBLIQUE = (0.96, 0.28, 0.0, -0.28 * 0.8, 0.96 * 0.8, 0.6)
PLANES = [AXIAL, SAGITTAL, CORONAL, PRONE, OBLIQUE]


@pytest.mark.parametrize("orientation", PLANES)
def test_affine_and_values_are_those_of_highdicom(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    hu = noise()
    files = write_series(tmp_path, hu, orientation=orientation)
    series = open_series(tmp_path)
    reference = hd.get_volume_from_series([dcmread(file) for file in files])
    column, row, number = 1, 2, 3
    # highdicom's arrays are (slices, rows, columns), whichever way the slices run, and its affine
    # is LPS.
    [same] = [k for k, plane in enumerate(reference.array) if (plane == hu[:, :, number].T).all()]
    lps = np.array(reference.affine @ [same, row, column, 1], dtype=np.float64)
    place = series.affine @ [column, row, number, 1]
    np.testing.assert_allclose(place, lps * np.array([-1, -1, 1, 1]), atol=1e-4)
    assert edges(series.affine) == pytest.approx(SPACING)
    ct = read_volume(tmp_path)
    np.testing.assert_array_equal(ct.from_ras(ct.values[0]), hu)


def test_affine_of_an_axial_series_is_that_of_the_standard(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), origin=(-20, -30, 40))
    rows = [[-0.7, 0, 0, 20], [0, -0.8, 0, 30], [0, 0, 2.5, 40], [0, 0, 0, 1]]
    np.testing.assert_allclose(open_series(tmp_path).affine, np.array(rows), atol=1e-9)


def test_known_voxel_lands_left_of_the_patient_and_at_the_head(tmp_path: Path) -> None:
    hu = np.full((4, 5, 6), -1000, np.int16)
    hu[3, 4, 5] = 77  # DICOM counts towards the left, the back and the head
    write_series(tmp_path, hu)
    ct = read_volume(tmp_path)
    assert np.argwhere(ct.values[0] == 77).tolist() == [[0, 0, 5]]
    assert ct.spacing == pytest.approx(SPACING)


def test_every_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    hu = noise()
    files = write_series(tmp_path, hu)
    edit(files[2], RescaleSlope=2, RescaleIntercept=-2048)
    edit(files[3], RescaleSlope=0.5, RescaleIntercept=-512)
    ct = read_volume(tmp_path)
    stored = ct.from_ras(ct.values[0])
    np.testing.assert_array_equal(stored[:, :, 2], hu[:, :, 2] * 2)
    np.testing.assert_array_equal(stored[:, :, 3], hu[:, :, 3] / 2)
    np.testing.assert_array_equal(stored[:, :, 4], hu[:, :, 4])


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    hu = noise()
    files = write_series(tmp_path, hu)
    (tmp_path / "README.txt").write_text("scanned on a Monday")
    (tmp_path / "empty").touch()
    report = dcmread(files[0])
    for name in ("Rows", "Columns", "PixelData"):
        del report[name]
    report.Modality, report.SeriesInstanceUID = "SR", generate_uid()
    report.save_as(tmp_path / "report.dcm")
    (tmp_path / "sub").mkdir()
    write_series(tmp_path / "sub" / "other", noise(seed=2))
    assert open_series(tmp_path).shape == hu.shape


@pytest.mark.parametrize("below", ["series", "S1/I10", "a/b/c"])
def test_files_may_lie_some_folders_deeper(tmp_path: Path, below: str) -> None:
    (tmp_path / below).parent.mkdir(parents=True, exist_ok=True)
    write_series(tmp_path / below, noise())
    assert open_series(tmp_path).shape == (5, 6, 7)


@pytest.mark.parametrize("name", [None, "README.txt"])
def test_folder_without_an_image_is_refused(tmp_path: Path, name: str | None) -> None:
    if name:
        (tmp_path / name).write_text("nothing here")
    with pytest.raises(DataError, match="holds no DICOM image"):
        open_series(tmp_path)


def test_mixed_series_are_named_and_counted(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), series="1.2.3")
    write_series(tmp_path / "b", noise((5, 6, 3)), series="1.2.4")
    for file in (tmp_path / "b").iterdir():
        file.rename(tmp_path / f"b{file.name}")
    with pytest.raises(DataError, match=r"mixes 2 series: .*1\.2\.3 \(7 images\).*") as caught:
        open_series(tmp_path)
    assert "1.2.4 (3 images)" in str(caught.value)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_missing_slice_names_the_gap_and_both_files(tmp_path: Path, number: int) -> None:
    files = write_series(tmp_path, noise())
    files[number].unlink()
    below, above = files[number - 1], files[number + 1]
    with pytest.raises(DataError, match=r"5\.000 mm apart .* but its slices usually 2\.500") as e:
        open_series(tmp_path)
    assert str(e.value).startswith(f"{below} and {above} are")
    start = 40 + 2.5 * (number - 1)
    assert f"from {start:.3f} to {start + 5:.3f} mm" in str(e.value)


def test_doubled_slice_names_both_files(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    copy = tmp_path / "zz_copy.dcm"
    copy.write_bytes(files[4].read_bytes())
    with pytest.raises(DataError, match=r"at the same position, 50\.000 mm") as caught:
        open_series(tmp_path)
    assert str(caught.value).startswith(f"{files[4]} and {copy} lie")


@pytest.mark.parametrize(("shift", "fits"), [(0.055, True), (0.07, False), (-0.07, False)])
def test_positions_may_be_rounded_to_a_tenth_of_a_mm(
    tmp_path: Path, shift: float, fits: bool
) -> None:
    files = write_series(tmp_path, noise())
    edit(files[3], ImagePositionPatient=[-20, -30, 47.5 + shift])
    if fits:
        assert edges(open_series(tmp_path).affine)[2] == pytest.approx(2.5)
        return
    with pytest.raises(DataError, match="Slices are missing or the spacing is uneven"):
        open_series(tmp_path)


def test_spacing_that_changes_on_the_way_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise((5, 6, 20)))
    for number, file in enumerate(files):
        edit(file, ImagePositionPatient=[-20, -30, 2 * number + 0.05 * max(0, number - 9)])
    with pytest.raises(DataError, match="the spacing is uneven"):
        open_series(tmp_path)


def test_tilted_gantry_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    for number, file in enumerate(files):
        edit(file, ImagePositionPatient=[-20, -30 + 0.3 * number, 40 + 2.5 * number])
    with pytest.raises(DataError, match=r"lies 1\.800 mm beside .*dcm2niix"):
        open_series(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Rows": 4}, r"differ in shape: \(5, 6\) and \(5, 4\)|\(5, 4\) and \(5, 6\)"),
        ({"PixelSpacing": [0.9, 0.7]}, "differ in spacing"),
        ({"ImageOrientationPatient": list(SAGITTAL)}, "differ in orientation"),
        ({"FrameOfReferenceUID": "1.9"}, "differ in frame of reference"),
    ],
)
def test_slices_unlike_each_other_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    files = write_series(tmp_path, noise())
    edit(files[3], **changes)
    with pytest.raises(DataError, match=message) as caught:
        open_series(tmp_path)
    assert files[3].name in str(caught.value)


def test_spacing_rounded_differently_is_the_same(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    edit(files[3], PixelSpacing=[0.8001, 0.7])
    assert open_series(tmp_path).shape == (5, 6, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Modality": "MR"}, "differ in modality: (?:MR and CT|CT and MR)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "is a localizer"),
        ({"NumberOfFrames": 3}, "3 frames of 1 values a pixel"),
        ({"SamplesPerPixel": 3}, "1 frames of 3 values a pixel"),
        ({"PixelSpacing": None}, "not say where its image lies .*PixelSpacing"),
        ({"ImagePositionPatient": None}, "not say where .*ImagePositionPatient"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 1, 0]}, "ImageOrientationPatient is"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "ImageOrientationPatient is"),
    ],
)
def test_image_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    files = write_series(tmp_path, noise())
    edit(files[3], **changes)
    with pytest.raises(DataError, match=rf"{files[3].name}.* {message}"):
        open_series(tmp_path)


def test_single_slice_takes_its_thickness(tmp_path: Path) -> None:
    [file] = write_series(tmp_path, noise((5, 6, 1)))
    assert edges(open_series(tmp_path).affine)[2] == pytest.approx(2.5)
    edit(file, SliceThickness=None)
    with pytest.raises(DataError, match="gives them no size"):
        open_series(tmp_path)


def test_cut_off_file_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    files[3].write_bytes(files[3].read_bytes()[:-10])
    with pytest.raises(DataError, match=rf"(?:read|pixels of) .*{files[3].name}"):
        read_volume(tmp_path)


def test_compression_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    dataset = dcmread(files[3])
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8not really\xff\xd9"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(files[3])
    with pytest.raises(DataError, match=rf"pixels of .*{files[3].name} .*JPEG Lossless.*dcmdjpeg"):
        read_volume(tmp_path)


@pytest.mark.parametrize("content", [0, 100, 400])
def test_last_file_that_is_empty_or_cut_off_is_named(tmp_path: Path, content: int) -> None:
    files = write_series(tmp_path, noise())
    files[-1].write_bytes(files[-1].read_bytes()[:content])
    with pytest.raises(DataError, match=rf"{files[-1].name} (?:is named as a slice|as DICOM)"):
        open_series(tmp_path)


def test_rescaling_of_some_slices_only_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    for file in files[1:]:
        edit(file, RescaleSlope=None, RescaleIntercept=None)
    with pytest.raises(DataError, match="stored numbers and rescaled values are mixed") as caught:
        open_series(tmp_path)
    assert str(files[0]) in str(caught.value)


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    hu = noise()
    for file in write_series(tmp_path, hu):
        file.write_bytes(file.read_bytes()[132:])
    scan = read_volume(tmp_path)
    np.testing.assert_array_equal(scan.from_ras(scan.values[0]), hu)


def test_mr_series_is_read_with_its_modality_and_rescaling(tmp_path: Path) -> None:
    hu = noise()
    for file in write_series(tmp_path, hu):
        edit(file, Modality="MR", SOPClassUID=MRImageStorage)
    scan = read_volume(tmp_path)
    assert scan.modality == "MR"
    np.testing.assert_array_equal(scan.from_ras(scan.values[0]), hu)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_are_read(tmp_path: Path, syntax: str) -> None:
    hu = noise((64, 64, 3))
    for file in write_series(tmp_path, hu):
        dataset = dcmread(file)
        dataset.compress(syntax)
        dataset.save_as(file)
    scan = read_volume(tmp_path)
    np.testing.assert_array_equal(scan.from_ras(scan.values[0]), hu)
