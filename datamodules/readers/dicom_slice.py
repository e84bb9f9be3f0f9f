"""One DICOM image of a series: its header by pydicom, its pixels by GDCM."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813  (as its own examples do)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from lightning_fl.errors import DataError

TAGS = (
    "SOPClassUID",
    "Modality",
    "ImageType",
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
    "RescaleSlope",
)

# What pydicom raises on damaged files.
DAMAGE = (
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
        modality: e.g. "CT" or "MR".
        rescaled: whether the header says how stored numbers become values.
        syntax: name of the transfer syntax.
    """

    path: Path
    series: str
    frame_of_reference: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness: float
    modality: str
    rescaled: bool
    syntax: str


def read_header(path: Path) -> Dataset | None:
    """Read the header of a file, or return None if it is no DICOM file.

    Some archives write files without the 128 bytes and the "DICM" that should begin them.

    Raises:
        DataError: the file is damaged; names it.
    """
    is_dicom = False
    try:
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
    except DAMAGE as error:
        if not is_dicom and not isinstance(error, OSError):
            return None
        raise DataError(f"Cannot read {path} as DICOM ({error}); it may be damaged.") from error
    return header if is_dicom or "SOPClassUID" in header else None


def is_image(header: Dataset | None) -> TypeGuard[Dataset]:
    """Tell whether a header is that of an image, and of none that is a segmentation.

    Reports, DICOMDIR and segmentations lie beside the images of a series in many archives.
    """
    return header is not None and "Rows" in header and header.get("Modality") != "SEG"


def to_slice(header: Dataset, path: Path) -> DicomSlice:
    """Take what places a slice out of its header; raise a DataError for other than one slice."""
    if "LOCALIZER" in (header.get("ImageType") or ()):
        raise DataError(
            f"{path} is a localizer (ImageType), a survey view and no slice of a scan; take it out."
        )
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
            modality=str(header.get("Modality")),
            rescaled="RescaleSlope" in header,
            syntax=getattr(header.file_meta.get("TransferSyntaxUID"), "name", "unknown"),
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


def read_slice(placed: DicomSlice) -> npt.NDArray[Any]:
    """Read the rescaled values of a slice, (columns, rows), by GDCM.

    GDCM unpacks JPEG, JPEG-LS, JPEG 2000 and RLE, and applies the rescale slope and intercept.

    Raises:
        DataError: the file is cut off or damaged; names it.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")  # which a file without preamble needs
    reader.SetFileName(str(placed.path))
    try:
        pixels = sitk.GetArrayFromImage(reader.Execute()).squeeze(0).T
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition("ITK ERROR: ")[2]
        raise DataError(
            f"Cannot decode the pixels of {placed.path} (transfer syntax {placed.syntax}): "
            f"{reason}. If the file is whole, decompress it first, e.g. with dcmdjpeg or "
            "gdcmconv --raw."
        ) from error
    if pixels.shape != placed.shape:
        raise DataError(f"{placed.path} holds pixels of shape {pixels.shape}, not {placed.shape}.")
    return np.asarray(pixels)
