from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from datamodules.readers.mask import read_mask, save_mask
from datamodules.readers.volume import read_volume
from datamodules.targets import ClassNumbers
from lightning_fl.errors import DataError
from tests.datamodules.readers.scan_files import edit, noise, write_segmentation, write_series

SHAPE = (5, 6, 7)
OBLIQUE = (0.96, 0.28, 0.0, -0.28 * 0.8, 0.96 * 0.8, 0.6)


def drawn(segments: int = 1) -> np.ndarray:
    """Masks of segments that do not overlap, two slices of them empty."""
    classes = np.random.default_rng(5).integers(0, segments + 1, SHAPE)
    classes[:, :, [0, 4]] = 0
    return np.stack([classes == number + 1 for number in range(segments)], axis=-1)


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE])
@pytest.mark.parametrize("number", [1, 7])
def test_frames_lie_on_the_slices_they_were_drawn_on(
    tmp_path: Path, orientation: tuple[float, ...], number: int
) -> None:
    files = write_series(tmp_path / "ct", noise(), orientation=orientation)
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn(), numbers=(number,))
    read = read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))
    np.testing.assert_array_equal(read, drawn()[..., 0])
    assert read.dtype == np.uint8


def test_segments_become_classes_by_their_number(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn(2), numbers=(3, 1))
    read = read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(4))
    np.testing.assert_array_equal(read, drawn(2)[..., 0] * 3 + drawn(2)[..., 1])


def test_saved_classes_are_read_back_onto_the_series(tmp_path: Path) -> None:
    for file in write_series(tmp_path / "ct", noise(), orientation=OBLIQUE):
        edit(file, PatientName=None, StudyDate=None)  # as anonymisers leave files
    ct = read_volume(tmp_path / "ct")
    classes = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8)
    for number, mask in enumerate((classes, np.zeros_like(classes))):
        save_mask(mask, ct, tmp_path / f"{number}.dcm")
        read = read_mask(tmp_path / f"{number}.dcm", ct, ClassNumbers(4))
        np.testing.assert_array_equal(read, mask)
    written = dcmread(tmp_path / "0.dcm")
    [series] = written.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == dcmread(next((tmp_path / "ct").iterdir())).SeriesInstanceUID
    assert written.SegmentSequence[2].SegmentAlgorithmType == "AUTOMATIC"


def test_series_that_names_no_study_is_refused_as_segmentation(tmp_path: Path) -> None:
    for file in write_series(tmp_path / "ct", noise()):
        edit(file, StudyInstanceUID=None)
    ct = read_volume(tmp_path / "ct")
    with pytest.raises(DataError, match=r"segmentation of .*/ct cannot be written .*StudyInstance"):
        save_mask(np.ones(SHAPE, np.uint8), ct, tmp_path / "mask.dcm")


def test_segmentation_may_lie_in_the_folder_of_its_series(tmp_path: Path) -> None:
    files = write_series(tmp_path, noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    ct = read_volume(tmp_path)
    assert ct.shape == SHAPE
    np.testing.assert_array_equal(read_mask(mask, ct, ClassNumbers(1)), drawn()[..., 0])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (1, r"holds the values \[1, 2\], but a binary mask"),
        (2, r"holds the values \[2\], but `classes` is 2"),
    ],
)
def test_other_segments_than_classes_are_refused(
    tmp_path: Path, classes: int, message: str
) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn(2), numbers=(1, 2))
    with pytest.raises(DataError, match=rf"mask\.dcm {message}"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(classes))


def test_overlap_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    both = drawn(2)
    both[1, 1, 3] = True
    mask = write_segmentation(tmp_path / "mask.dcm", files, both, numbers=(1, 2))
    with pytest.raises(DataError, match=r"mask\.dcm .*segments overlap"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SOPClassUID": CTImageStorage}, ".*is not a Segmentation"),
        (
            {"SegmentationType": "FRACTIONAL"},
            "is a segmentation of the type 'FRACTIONAL', but expected 'BINARY'",
        ),
        (
            {"FrameOfReferenceUID": "1.9"},
            r"has the frame of reference 1\.9, but its scan .*/ct has 1\.8",
        ),
        ({"Rows": 3}, "has 5 x 3 pixels, but its scan .*/ct has 5 x 6"),
        ({"SegmentSequence": None}, ".*SegmentSequence"),
        ({"PerFrameFunctionalGroupsSequence": None}, ".*PerFrameFunctionalGroupsSequence"),
    ],
)
def test_segmentation_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    files = write_series(tmp_path / "ct", noise(), frame_of_reference="1.8")
    mask = edit(write_segmentation(tmp_path / "mask.dcm", files, drawn()), **changes)
    with pytest.raises(DataError, match=rf"mask\.dcm {message}"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))


@pytest.mark.parametrize(("shift", "fits"), [(0.05, True), (1.2, False), (100.0, False)])
def test_frame_beside_every_slice_is_refused(tmp_path: Path, shift: float, fits: bool) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    dataset = dcmread(mask)
    places = [f.PlanePositionSequence[0] for f in dataset.PerFrameFunctionalGroupsSequence]
    [number] = [n for n, place in enumerate(places) if place.ImagePositionPatient[2] == 55]
    places[number].ImagePositionPatient[2] = 55 + shift  # beyond the last slice
    dataset.save_as(mask)
    if fits:
        np.testing.assert_array_equal(
            read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1)), drawn()[..., 0]
        )
        return
    with pytest.raises(DataError, match=r"mask\.dcm .*(regularly-spaced|lie beyond its ends)"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))


@pytest.mark.parametrize("slices", [[3], [1, 5], [0, 6]])
def test_few_frames_lie_on_their_slices(tmp_path: Path, slices: list[int]) -> None:
    files = write_series(tmp_path / "ct", noise())
    few = np.zeros((*SHAPE, 1), bool)
    few[1:3, 2:5, slices] = True
    mask = write_segmentation(tmp_path / "mask.dcm", files, few)
    read = read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))
    np.testing.assert_array_equal(read, few[..., 0])


@pytest.mark.parametrize("mm", [0.05, 1.25])
def test_whole_segmentation_between_slices_is_refused(tmp_path: Path, mm: float) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    dataset = dcmread(mask)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += mm
    dataset.save_as(mask)
    scan = read_volume(tmp_path / "ct")
    if mm < 0.06:
        np.testing.assert_array_equal(read_mask(mask, scan, ClassNumbers(1)), drawn()[..., 0])
        return
    with pytest.raises(DataError, match=r"lies elsewhere .* lie 1\.250 mm beside its slices"):
        read_mask(mask, scan, ClassNumbers(1))


def test_frame_moved_within_its_plane_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    dataset = dcmread(mask)
    [place] = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    place.ImagePositionPatient[0] += 0.7
    dataset.save_as(mask)
    with pytest.raises(DataError, match=r"mask\.dcm .*export it anew"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))


def test_other_pixels_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    dataset = dcmread(mask)
    [shared] = dataset.SharedFunctionalGroupsSequence
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.9, 0.7]
    dataset.save_as(mask)
    with pytest.raises(DataError, match=r"mask\.dcm lies elsewhere .* have other pixels"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    ct = read_volume(tmp_path / "ct")
    edit(mask, PixelData=b"\0\0", NumberOfFrames=5)
    with pytest.raises(DataError, match=r"Cannot read .*mask\.dcm"):
        read_mask(mask, ct, ClassNumbers(1))
    mask.write_text("no DICOM at all")
    with pytest.raises(DataError, match=r"Cannot read .*mask\.dcm as a DICOM"):
        read_mask(mask, ct, ClassNumbers(1))


def test_frame_of_a_segment_that_is_not_described_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn(2), numbers=(1, 2))
    dataset = dcmread(mask)
    del dataset.SegmentSequence[1]
    dataset.save_as(mask)
    with pytest.raises(DataError, match=r"has frames of segments \[2\], but describes \[1\]"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))


def test_frames_that_are_not_described_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", noise())
    mask = write_segmentation(tmp_path / "mask.dcm", files, drawn())
    dataset = dcmread(mask)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.save_as(mask)
    with pytest.raises(DataError, match=r"Cannot read .*mask\.dcm as a DICOM segmentation"):
        read_mask(mask, read_volume(tmp_path / "ct"), ClassNumbers(1))
