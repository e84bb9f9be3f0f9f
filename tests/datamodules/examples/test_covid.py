import time
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from nibabel.arrayproxy import ArrayProxy
from pydicom.uid import CTImageStorage

from datamodules.examples import covid
from datamodules.examples.covid import WRITERS, Export
from datamodules.examples.dicom_writer import series
from datamodules.examples.example import Amount
from datamodules.examples.nifti_writer import write_nifti
from datamodules.examples.phantom_volume import PhantomVolume, phantom_volume
from datamodules.examples.segmentation_writer import write_segmentation
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import REFERENCE

SMALL = Amount(sites=4, patients=3, size=32, slices=15)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covid")
    assert len(list(covid.make(folder, SMALL))) == 12
    return folder


@pytest.fixture(scope="module")
def volume() -> PhantomVolume:
    return phantom_volume(Patient(11, 20, 48, REFERENCE))


@pytest.fixture(scope="module")
def written(volume: PhantomVolume, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same patient as each hospital writes it; `dicom` has its mask as DICOM, `mixed` not."""
    folders = {}
    kinds = zip(("usual", "turned", "dicom", "reversed"), WRITERS, strict=True)
    for name, number, write in [*((n, 0, w) for n, w in kinds), ("mixed", 1, WRITERS[2])]:
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name], Export(volume, "X-001", number, REFERENCE))
    return folders


def nifti_centre(path: Path) -> npt.NDArray[np.float64]:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    index = np.argwhere(np.asarray(image.dataobj) > 0).mean(axis=0)
    return position(image.affine, index)


def position(
    affine: npt.NDArray[np.float64], index: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    place: npt.NDArray[np.float64] = affine[:3, :3] @ index + affine[:3, 3]
    return place


def segmentation_centre(path: Path) -> npt.NDArray[np.float64]:
    """From the position of every frame, which DICOM counts to the left, the back and the head."""
    segmentation = pydicom.dcmread(path)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    row, column = shared.PixelMeasuresSequence[0].PixelSpacing
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    points = []
    frames = zip(
        segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True
    )
    for frame, pixels in frames:
        left, back, head = frame.PlanePositionSequence[0].ImagePositionPatient
        for y, x in np.argwhere(pixels):
            points.append((-(left + x * column), -(back + y * row), head))
    centre: npt.NDArray[np.float64] = np.mean(points, axis=0)
    return centre


def read_series(folder: Path) -> list[pydicom.Dataset]:
    images: list[pydicom.Dataset] = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return images


def test_a_lesion_is_at_the_same_place_in_every_format(
    written: dict[str, Path], volume: PhantomVolume
) -> None:
    expected = position(volume.affine, np.argwhere(volume.mask).mean(axis=0))
    assert np.abs(expected).min() > 40  # off every axis: no flip goes unseen
    for name in ("usual", "reversed", "mixed"):
        np.testing.assert_allclose(
            nifti_centre(written[name] / "mask.nii.gz"), expected, atol=1e-3, err_msg=name
        )
    np.testing.assert_allclose(
        segmentation_centre(written["dicom"] / "mask.dcm"), expected, atol=1e-3
    )
    # Turning takes the nearest voxel of the mask: up to half a voxel off.
    error = np.abs(nifti_centre(written["turned"] / "mask.nii.gz") - expected)
    assert (error < np.array(volume.spacing)[[2, 1, 0]] / 2).all()


def test_slices_of_a_series_lie_where_their_headers_say(
    written: dict[str, Path], volume: PhantomVolume
) -> None:
    for image in read_series(written["dicom"] / "ct"):
        left, back, head = map(float, image.ImagePositionPatient)
        corner = np.linalg.inv(volume.affine) @ [-left, -back, head, 1]
        number = round(corner[0])
        np.testing.assert_allclose(corner, [number, 0, 0, 1], atol=1e-4)
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        np.testing.assert_array_equal(hu, volume.hu[number])
        assert [float(mm) for mm in image.PixelSpacing] == pytest.approx(volume.spacing[1:])


def test_series_is_one_ct_series_whose_file_names_say_nothing(written: dict[str, Path]) -> None:
    images = read_series(written["dicom"] / "ct")
    assert {image.SOPClassUID for image in images} == {CTImageStorage}
    assert len({image.SOPInstanceUID for image in images}) == len(images) == 20
    for tag in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({getattr(image, tag) for image in images}) == 1
    heads = np.array([float(image.ImagePositionPatient[2]) for image in images])
    assert np.ptp(np.diff(np.sort(heads))) < 1e-4
    assert (np.diff(heads) > 0).any()
    assert (np.diff(heads) < 0).any()


def test_highdicom_reads_the_segmentation_of_the_series(
    written: dict[str, Path], volume: PhantomVolume
) -> None:
    images = sorted(read_series(written["dicom"] / "ct"), key=lambda image: image.InstanceNumber)
    segmentation = highdicom.seg.segread(written["dicom"] / "mask.dcm")
    mask = segmentation.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in images],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(mask, volume.mask)
    assert segmentation.get_segment_description(1).segment_label == "infection"
    assert segmentation.number_of_frames < len(images)  # slices without infection are left out


def test_segmentation_without_infection_is_a_file_too(
    volume: PhantomVolume, tmp_path: Path
) -> None:
    images = series(volume, "X-002", REFERENCE.scanner)
    write_segmentation(tmp_path / "mask.dcm", np.zeros_like(volume.mask), images)
    segmentation = highdicom.seg.segread(tmp_path / "mask.dcm")
    assert segmentation.pixel_array.shape == volume.mask.shape
    assert not segmentation.pixel_array.any()


@pytest.mark.parametrize(
    ("name", "axes"), [("usual", "LPS"), ("turned", "IPL"), ("reversed", "RAS")]
)
def test_axes_of_a_nifti_file_are_those_of_its_hospital(
    written: dict[str, Path], name: str, axes: str
) -> None:
    image, mask = (nib.load(written[name] / f"{part}.nii.gz") for part in ("ct", "mask"))
    assert isinstance(image, nib.Nifti1Image)
    assert isinstance(mask, nib.Nifti1Image)
    assert nib.aff2axcodes(image.affine) == tuple(axes)  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(mask.affine, image.affine)
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-3)  # type: ignore[no-untyped-call]
    assert image.shape == mask.shape
    assert mask.get_data_dtype() == np.uint8  # type: ignore[no-untyped-call]
    assert np.abs(image.affine[:3, 3]).min() > 50


def test_hounsfield_units_come_back_through_a_header_with_scaling(
    written: dict[str, Path], volume: PhantomVolume
) -> None:
    image = nib.load(written["turned"] / "ct.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    assert isinstance(image.dataobj, ArrayProxy)
    assert (image.dataobj.slope, image.dataobj.inter) == (0.5, -1024.0)
    hu = image.get_fdata()
    assert np.median(hu[0, 0]) == pytest.approx(-1000, abs=30)
    assert hu.min() >= -1024
    np.testing.assert_allclose(np.median(hu), np.median(volume.hu), atol=15)


def test_nifti_values_are_slope_times_number_plus_intercept(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    write_nifti(tmp_path / "a.nii.gz", stored, np.diag([2.0, 3.0, 4.0, 1.0]), (0.5, -1024))
    image = nib.load(tmp_path / "a.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    np.testing.assert_array_equal(image.get_fdata(), stored * 0.5 - 1024)
    assert image.header.get_zooms() == (2, 3, 4)  # type: ignore[no-untyped-call]
    assert image.header.get_xyzt_units()[0] == "mm"  # type: ignore[no-untyped-call]
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1


def test_every_site_has_its_own_files_and_thickness(root: Path) -> None:
    found = {str(path.relative_to(root)) for path in root.glob("*/*/*")}
    nifti = {f"{s}/{s}-00{n}/{f}.nii.gz" for s in "ABD" for n in "123" for f in ("ct", "mask")}
    dicom = {f"C/C-00{n}/ct" for n in "123"} | {"C/C-002/mask.nii.gz"}
    assert found == nifti | dicom | {f"C/C-00{n}/mask.dcm" for n in "13"}
    assert len(list((root / "C" / "C-001" / "ct").iterdir())) == 12
    shapes = [nib.load(root / s / f"{s}-001" / "ct.nii.gz").shape for s in "ABD"]  # type: ignore[attr-defined]
    assert shapes == [(32, 32, 15), (9, 32, 32), (32, 32, 14)]


def test_making_it_again_gives_the_same_bytes_at_any_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    list(covid.make(tmp_path, SMALL))
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    assert len(files) == 3 * 2 * 3 + 3 * (12 + 1)
    assert [f for f in files if (tmp_path / f).read_bytes() != (root / f).read_bytes()] == []


def test_another_seed_makes_other_patients_of_the_same_name(root: Path, tmp_path: Path) -> None:
    [*_] = covid.make(tmp_path, Amount(sites=1, patients=3, size=32, slices=15, seed=1))
    file = Path("A", "A-001", "ct.nii.gz")
    assert (tmp_path / file).read_bytes() != (root / file).read_bytes()
