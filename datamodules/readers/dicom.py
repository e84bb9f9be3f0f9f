"""DICOM series: a folder of slices as one volume."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from datamodules.readers.dicom_slice import (
    DicomSlice,
    is_image,
    read_header,
    read_slice,
    to_slice,
)
from datamodules.readers.space import Affine, check_affine
from lightning_fl.errors import DataError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

ROUNDING = 0.06
"""Deviation in mm that is no error: positions are often rounded to a tenth of a mm."""


@dataclass(frozen=True)
class DicomSeries:
    """Hold where a series lies on disk; its array is (columns, rows, slices along their normal).

    Attributes:
        source: its folder.
        slices: its images, in order.
        affine: of its array, RAS+ as everywhere here, not DICOM's LPS.
    """

    source: Path
    slices: tuple[DicomSlice, ...]
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return (*self.slices[0].shape, len(self.slices))

    @property
    def modality(self) -> str:
        """What the headers say, e.g. "CT" or "MR"."""
        return self.slices[0].modality

    def read(self) -> npt.NDArray[np.float32]:
        """Read the rescaled values, (1, columns, rows, slices)."""
        columns, rows, count = self.shape
        values = np.empty((1, count, rows, columns), np.float32).transpose(0, 3, 2, 1)
        for number, placed in enumerate(self.slices):
            values[0, :, :, number] = read_slice(placed)
        return values


def open_series(folder: Path) -> DicomSeries:
    """Read the headers of the one series in a folder, or as far below it as the images begin.

    Files that are no images (text, DICOMDIR, reports, segmentations) are passed over.

    Raises:
        DataError: there is no image or more than one series; a file with an image's suffix is empty
            or no DICOM file; slices are missing, doubled or unlike each other; the gantry was
            tilted; names the files.
    """
    levels = ("*", "*/*", "*/*/*", "*/*/*/*")
    slices = next(filter(None, (_slices(sorted(folder.glob(level))) for level in levels)), [])
    if not slices:
        raise DataError(f"{folder} holds no DICOM image; expected the files of one series.")
    _check_one_series(slices, folder)
    for other in slices[1:]:
        _check_alike(slices[0], other)
    ordered = _in_order(slices)
    affine = _affine(ordered)
    check_affine(affine, folder)
    return DicomSeries(folder, ordered, affine)


def tolerance(spacing: float) -> float:
    """Return how far in mm a slice may lie from its place: rounding, but 1 to 10 % of a spacing."""
    return float(np.clip(ROUNDING, 0.01 * spacing, 0.1 * spacing))


def nearly(first: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether spacings or directions agree up to their rounding, which may differ."""
    return len(first) == len(other) and bool(np.allclose(first, other, rtol=1e-3, atol=1e-3))


def _slices(paths: Sequence[Path]) -> list[DicomSlice]:
    """Read where the images among some files lie."""
    files = [path for path in paths if path.is_file() and path.name[0] != "."]
    headers = {path: read_header(path) for path in files}
    slices = [to_slice(header, path) for path, header in headers.items() if is_image(header)]
    suffixes = {placed.path.suffix for placed in slices}
    others = [path for path in files if not is_image(headers[path]) and path.suffix in suffixes]
    for path in others:
        if _should_be_a_slice(path, headers[path], {placed.modality for placed in slices}):
            raise DataError(
                f"{path} is named as a slice, but is empty or cut off; fetch the series anew, or "
                "remove the file."
            )
    return slices


def _should_be_a_slice(path: Path, header: Dataset | None, modalities: set[str]) -> bool:
    """Tell whether a file without an image is a damaged slice, and no report or text."""
    if header is None:
        return path.stat().st_size == 0 or path.suffix.lower() == ".dcm"
    return header.get("Modality") in {None, *modalities} and path.name != "DICOMDIR"


def _in_order(slices: Sequence[DicomSlice]) -> tuple[DicomSlice, ...]:
    """Sort slices along their normal; raise a DataError if they are uneven or shifted sideways."""
    height = {placed: float(np.dot(placed.position, _normal(placed))) for placed in slices}
    ordered = sorted(slices, key=lambda placed: (height[placed], placed.path))
    heights = np.array([height[placed] for placed in ordered])
    gaps = np.diff(heights)
    if gaps.size:
        _check_gaps(ordered, heights, gaps)
        _check_upright(ordered, float(gaps.mean()))
    return tuple(ordered)


def _affine(ordered: Sequence[DicomSlice]) -> Affine:
    """Return the affine of (columns, rows, slices), in RAS+ mm; equation C.7.6.2.1-1 of DICOM."""
    first, normal, spacing = ordered[0], _normal(ordered[0]), ordered[0].thickness
    if len(ordered) > 1:
        spacing = float(np.dot(np.subtract(ordered[-1].position, first.position), normal))
        spacing /= len(ordered) - 1
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[0])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[1])
    affine[:3, 2] = normal * spacing
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine)


def _normal(placed: DicomSlice) -> npt.NDArray[np.float64]:
    return np.cross(placed.orientation[:3], placed.orientation[3:])


def _check_one_series(slices: Sequence[DicomSlice], folder: Path) -> None:
    counts = Counter(placed.series for placed in slices)
    if len(counts) > 1:
        series = ", ".join(f"{uid} ({count} images)" for uid, count in counts.items())
        raise DataError(
            f"{folder} mixes {len(counts)} series: {series}. Leave one of them in the folder."
        )


def _check_alike(first: DicomSlice, other: DicomSlice) -> None:
    """Raise DataError if two slices cannot belong to one volume."""
    for name in ("modality", "shape", "spacing", "orientation", "frame_of_reference"):
        a, b = getattr(first, name), getattr(other, name)
        if a != b and not (name in ("spacing", "orientation") and nearly(a, b)):
            raise DataError(
                f"{first.path} and {other.path} differ in {name.replace('_', ' ')}: {a} and {b}. "
                "A localiser may have been stored with the series; take it out."
            )
    if first.rescaled != other.rescaled:
        with_slope, without = (first, other) if first.rescaled else (other, first)
        raise DataError(
            f"{with_slope.path} has a rescale slope and {without.path} has none, so stored numbers "
            "and rescaled values are mixed; export the series anew."
        )


def _check_gaps(
    ordered: Sequence[DicomSlice],
    heights: npt.NDArray[np.float64],
    gaps: npt.NDArray[np.float64],
) -> None:
    usual = float(np.median(gaps))
    closest = int(gaps.argmin())
    if gaps[closest] <= max(0.1 * usual, 1e-3):
        raise DataError(
            f"{ordered[closest].path} and {ordered[closest + 1].path} lie at the same position, "
            f"{heights[closest]:.3f} mm along the series; remove the doubled slice."
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() > tolerance(usual):
        worst = int(np.abs(gaps - usual).argmax())
        raise DataError(
            f"{ordered[worst].path} and {ordered[worst + 1].path} are {gaps[worst]:.3f} mm apart "
            f"(from {heights[worst]:.3f} to {heights[worst + 1]:.3f} mm along the series), but "
            f"its slices usually {usual:.3f} mm. Slices are missing or the spacing is uneven; "
            "complete the series or resample it."
        )


def _check_upright(ordered: Sequence[DicomSlice], gap: float) -> None:
    """Raise DataError if slices do not lie straight above each other."""
    normal = _normal(ordered[0])
    moved = np.subtract([placed.position for placed in ordered], ordered[0].position)
    sideways = np.linalg.norm(moved - np.outer(moved @ normal, normal), axis=1)
    worst = int(sideways.argmax())
    if sideways[worst] > max(tolerance(gap), 0.5 * min(ordered[0].spacing)):
        raise DataError(
            f"{ordered[worst].path} lies {sideways[worst]:.3f} mm beside "
            f"{ordered[0].path}, not straight above it, as a tilted gantry gives. Resample the "
            f"series with `dcm2niix -z y -f scan -o OUT {ordered[0].path.parent}`, and take "
            "OUT/scan_Tilt_1.nii.gz."
        )
