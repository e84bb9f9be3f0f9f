"""DICOM segmentation objects: masks whose frames name their place and segment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from datamodules.ct.dicom import DicomSeries, nearly, tolerance
from datamodules.ct.dicom_slice import read_dataset, read_pixels
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


def read_segmentation(path: Path, series: DicomSeries, classes: int) -> npt.NDArray[np.uint8]:
    """Read the mask of a series; slices without a frame are background.

    Args:
        path: DICOM file of a segmentation.
        series: the CT it was drawn on.
        classes: see `datamodules.ct.volume.read_mask`; one segment may have any number.

    Returns:
        Class numbers in the order of the series' array (columns, rows, slices).

    Raises:
        DataError: it is no binary segmentation, lies elsewhere than the series, has other segments
            or segments that overlap.
    """
    dataset = read_dataset(path, pixels=True)
    _check_kind(dataset, path, series)
    frames = _frames(dataset, path, classes)
    numbers = [_slice_of(f, f"Frame {n} of {path}", series) for n, f in enumerate(frames, start=1)]
    pixels = read_pixels(dataset, path).reshape(-1, *series.shape[1::-1])
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


def _check_kind(dataset: Dataset, path: Path, series: DicomSeries) -> None:
    if dataset.get("SOPClassUID") != SegmentationStorage:
        raise DataError(f"{path} is no DICOM segmentation; expected one, or a NIfTI file.")
    kind = dataset.get("SegmentationType")
    if kind != "BINARY":
        raise DataError(f"{path} is a segmentation of the type {kind!r}, but expected 'BINARY'.")
    first = series.slices[0]
    reference = str(dataset.get("FrameOfReferenceUID") or "")
    if reference and first.frame_of_reference and reference != first.frame_of_reference:
        raise DataError(
            f"Segmentation {path} has the frame of reference {reference}, but its CT "
            f"{series.source} has {first.frame_of_reference}; it was drawn on another scan."
        )
    shape = (dataset.get("Columns"), dataset.get("Rows"))
    if shape != first.shape:
        raise DataError(
            f"Segmentation {path} has {shape[0]} x {shape[1]} pixels, but its CT "
            f"{series.source} has {first.shape[0]} x {first.shape[1]}."
        )


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
            raise DataError(f"{name} differs in {part} from its CT {series.source}: {a} and {b}.")
    positions = np.array([placed.position for placed in series.slices])
    distances = np.linalg.norm(positions - frame.position, axis=1)
    nearest = int(distances.argmin())
    if not distances[nearest] <= tolerance(min(first.spacing)):
        raise DataError(
            f"{name} lies at {list(frame.position)} (ImagePositionPatient), "
            f"{distances[nearest]:.3f} mm from the nearest slice of its CT {series.source}, "
            f"{series.slices[nearest].path.name}."
        )
    return nearest
