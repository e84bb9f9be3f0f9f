"""One DICOM image of a CT series: its header and its pixels."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from lightning_fl.errors import DataError

TAGS = (
    "Modality",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
)

# What pydicom and its decoders raise on damaged files or compressed pixels without a decoder.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    InvalidDicomError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class DicomSlice:
    """Where one image of a series lies.

    Attributes:
        path: its file.
        series: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID, or "" where there is none.
        shape: columns and rows.
        spacing: mm between columns and between rows.
        orientation: unit vectors along a row and down a column, in mm to the patient's left, back
            and head (LPS, DICOM's own).
        position: of the centre of the first pixel, LPS.
        thickness: mm, or 0 where it is not given.
    """

    path: Path
    series: str
    frame_of_reference: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness: float


def read_dataset(path: Path, *, pixels: bool, tags: tuple[str, ...] | None = None) -> Dataset:
    """Read a DICOM file, or only these tags of it; raise a DataError if it is damaged or none."""
    wanted: list[Any] | None = None if tags is None else list(tags)
    try:
        return dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted)
    except _DAMAGE as error:
        raise DataError(f"Cannot read {path} as DICOM ({error}); it may be damaged.") from error


def read_image_header(path: Path) -> Dataset | None:
    """Read the header of a file. Return None if it is no DICOM file or holds no image of a scan.

    Reports, DICOMDIR and segmentations lie beside the images of a series in many archives.
    """
    try:
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    if not is_dicom:
        return None
    header = read_dataset(path, pixels=False, tags=TAGS)
    return header if "Rows" in header and header.get("Modality") != "SEG" else None


def to_slice(header: Dataset, path: Path) -> DicomSlice:
    """Take what places a slice out of its header; raise a DataError for other than one CT slice."""
    modality = header.get("Modality")
    if modality != "CT":
        raise DataError(f"{path} has the modality {modality!r}, but expected 'CT'.")
    frames, samples = header.get("NumberOfFrames") or 1, header.get("SamplesPerPixel") or 1
    if frames != 1 or samples != 1:
        raise DataError(
            f"{path} holds {frames} frames of {samples} values a pixel; only series with one grey "
            "image in a file are read. Convert it to NIfTI, e.g. with dcm2niix."
        )
    try:
        row_spacing, column_spacing = (float(v) for v in header.PixelSpacing)
        placed = DicomSlice(
            path=path,
            series=str(header.SeriesInstanceUID),
            frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
            shape=(int(header.Columns), int(header.Rows)),
            spacing=(column_spacing, row_spacing),
            orientation=tuple(float(v) for v in header.ImageOrientationPatient),
            position=tuple(float(v) for v in header.ImagePositionPatient),
            thickness=float(header.get("SliceThickness") or 0),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not say where its image lies ({error}).") from error
    if not _is_upright(placed.orientation) or len(placed.position) != 3:
        raise DataError(
            f"{path} does not say where its image lies: ImageOrientationPatient is "
            f"{list(placed.orientation)}, ImagePositionPatient {list(placed.position)}."
        )
    return placed


def _is_upright(orientation: tuple[float, ...]) -> bool:
    """Tell whether these are two unit vectors at a right angle, up to rounding."""
    if len(orientation) != 6:
        return False
    axes = np.reshape(orientation, (2, 3))
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() < 0.01)


def read_pixels(dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    """Read the stored numbers, (rows, columns) of an image or (frames, rows, columns)."""
    try:
        return np.asarray(dataset.pixel_array)
    except _DAMAGE as error:
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        reason = " ".join(str(error).split())  # pydicom lists each missing decoder in a line
        raise DataError(
            f"Cannot decode the pixels of {path} (transfer syntax {syntax}): {reason}. If the file "
            "is whole, decompress it first, e.g. with dcmdjpeg or gdcmconv --raw."
        ) from error


def read_hu(placed: DicomSlice) -> npt.NDArray[Any]:
    """Read the rescaled values of a slice, (columns, rows); integers if nothing is rescaled."""
    dataset = read_dataset(placed.path, pixels=True)
    stored = read_pixels(dataset, placed.path).T
    if stored.shape != placed.shape:
        raise DataError(f"{placed.path} holds pixels of shape {stored.shape}, not {placed.shape}.")
    try:
        slope = float(dataset.get("RescaleSlope", 1))
        intercept = float(dataset.get("RescaleIntercept", 0))
    except (TypeError, ValueError) as error:
        raise DataError(f"{placed.path} has no usable rescale slope ({error}).") from error
    return stored if (slope, intercept) == (1, 0) else stored * slope + intercept
