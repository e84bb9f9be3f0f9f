"""DICOM segmentation objects: masks whose frames name their place and segment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from datamodules.readers.dicom import DicomSeries, nearly, open_series, tolerance
from datamodules.readers.dicom_slice import DAMAGE
from lightning_fl.errors import DataError


@dataclass(frozen=True)
class Frame:
    """One image of a segmentation.

    Attributes:
        segment: number of its segment.
        spacing: mm between columns and between rows.
        orientation: as in `DicomSlice`.
        position: as in `DicomSlice`.
    """

    segment: int
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]


def read_segmentation(path: Path, scan: Path, classes: int) -> npt.NDArray[np.uint8]:
    """Read the mask of a series; slices without a frame are background.

    Args:
        path: DICOM file of a segmentation.
        scan: folder of the series it was drawn on.
        classes: see `datamodules.readers.mask.read_mask`; one segment may have any number.

    Returns:
        Class numbers in the order of the series' array (columns, rows, slices).

    Raises:
        DataError: it is no binary segmentation, lies elsewhere than the series, has other segments
            or segments that overlap.
    """
    if not scan.is_dir():
        raise DataError(
            f"{path} is a DICOM segmentation, but its scan {scan} is no DICOM series; give the "
            "series' folder, or convert the mask to NIfTI."
        )
    series = open_series(scan)
    dataset = _open(path, series)
    frames = _frames(dataset, path, classes)
    numbers = [_slice_of(f, f"Frame {n} of {path}", series) for n, f in enumerate(frames, start=1)]
    pixels = _pixels(dataset, path).reshape(-1, *series.shape[1::-1])
    if len(pixels) != len(frames):
        raise DataError(f"{path} describes {len(frames)} frames, but holds {len(pixels)}.")
    mask = np.zeros(series.shape, dtype=np.uint8, order="F")
    for number, frame, image in zip(numbers, frames, pixels, strict=True):
        plane = mask[:, :, number]
        drawn = image.T != 0
        if plane[drawn].any():
            raise DataError(
                f"{path} has segments that overlap, or a frame twice, at slice {number} "
                f"({series.slices[number].path.name}); every voxel needs one class."
            )
        plane[drawn] = 1 if classes == 1 else frame.segment
    return mask


def _open(path: Path, series: DicomSeries) -> Dataset:
    """Read a segmentation's file, and check that it is one of this series."""
    try:
        dataset = dcmread(path)
    except DAMAGE as error:
        raise DataError(f"Cannot read {path} as DICOM ({error}); it may be damaged.") from error
    if dataset.get("SOPClassUID") != SegmentationStorage:
        raise DataError(f"{path} is no DICOM segmentation; expected one, or a NIfTI file.")
    kind = dataset.get("SegmentationType")
    if kind != "BINARY":
        raise DataError(f"{path} is a segmentation of the type {kind!r}, but expected 'BINARY'.")
    first = series.slices[0]
    reference = str(dataset.get("FrameOfReferenceUID") or "")
    if reference and first.frame_of_reference and reference != first.frame_of_reference:
        raise DataError(
            f"Segmentation {path} has the frame of reference {reference}, but its scan "
            f"{series.source} has {first.frame_of_reference}; it was drawn on another scan."
        )
    shape = (dataset.get("Columns"), dataset.get("Rows"))
    if shape != first.shape:
        raise DataError(
            f"Segmentation {path} has {shape[0]} x {shape[1]} pixels, but its scan "
            f"{series.source} has {first.shape[0]} x {first.shape[1]}."
        )
    return dataset


def _pixels(dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(dataset.pixel_array)
    except DAMAGE as error:
        raise DataError(f"Cannot decode the pixels of {path} ({error}).") from error


def _frames(dataset: Dataset, path: Path, classes: int) -> list[Frame]:
    """Read where the frames lie, and check their segments."""
    try:
        segments = sorted({int(s.SegmentNumber) for s in dataset.SegmentSequence})
        [shared] = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        frames = [_frame(groups, shared) for groups in dataset.PerFrameFunctionalGroupsSequence]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not say where its frames lie ({error}).") from error
    _check_segments(segments, path, classes)
    unknown = sorted({frame.segment for frame in frames} - set(segments))
    if unknown:
        raise DataError(f"{path} has frames of segments {unknown}, but describes {segments}.")
    return frames


def _frame(groups: Dataset, shared: Dataset) -> Frame:
    def group(name: str) -> Any:
        """Return what is said of this frame, or else of all."""
        return (groups if name in groups else shared)[name].value[0]

    row_spacing, column_spacing = (float(v) for v in group("PixelMeasuresSequence").PixelSpacing)
    orientation = group("PlaneOrientationSequence").ImageOrientationPatient
    position = group("PlanePositionSequence").ImagePositionPatient
    return Frame(
        segment=int(group("SegmentIdentificationSequence").ReferencedSegmentNumber),
        spacing=(column_spacing, row_spacing),
        orientation=tuple(float(v) for v in orientation),
        position=tuple(float(v) for v in position),
    )


def _check_segments(segments: Sequence[int], path: Path, classes: int) -> None:
    if classes == 1 and len(segments) > 1:
        raise DataError(
            f"{path} has the segments {list(segments)}, but `classes` is 1; keep one segment, or "
            f"set `classes` to {max(segments) + 1}."
        )
    if classes > 1 and max(segments, default=0) >= classes:
        raise DataError(
            f"{path} has the segments {list(segments)}, but `classes` is {classes}, so that "
            f"numbers end at {classes - 1}."
        )


def _slice_of(frame: Frame, name: str, series: DicomSeries) -> int:
    """Find the slice that a frame lies on."""
    first = series.slices[0]
    for part in ("spacing", "orientation"):
        a, b = getattr(frame, part), getattr(first, part)
        if not nearly(a, b):
            raise DataError(f"{name} differs in {part} from its scan {series.source}: {a} and {b}.")
    positions = np.array([placed.position for placed in series.slices])
    distances = np.linalg.norm(positions - frame.position, axis=1)
    nearest = int(distances.argmin())
    if not distances[nearest] <= tolerance(min(first.spacing)):
        raise DataError(
            f"{name} lies at {list(frame.position)} (ImagePositionPatient), "
            f"{distances[nearest]:.3f} mm from the nearest slice of its scan {series.source}, "
            f"{series.slices[nearest].path.name}."
        )
    return nearest
