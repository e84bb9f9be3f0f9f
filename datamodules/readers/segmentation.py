"""DICOM segmentations by highdicom: masks whose frames name their place and segment."""

import io
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from datamodules.readers.dicom import LPS_TO_RAS, DicomSeries, nearly, open_series, tolerance
from datamodules.readers.dicom_slice import DAMAGE
from datamodules.targets import MaskTarget
from lightning_fl.errors import DataError

MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Attributes of patient and study that DICOM wants in every file, but that may have no value."""

SERIES_NUMBER = 9001
"""Of what is written: higher than those that scanners give."""


def read_segmentation(path: Path, scan: Path, target: MaskTarget) -> npt.NDArray[np.uint8]:
    """Read the segments of a series; slices without a frame are 0.

    Args:
        path: DICOM file of a segmentation.
        scan: folder of the series it was drawn on.
        target: has to know the numbers of the segments, also of those that are empty.

    Returns:
        Numbers of segments in the order of the series' array (columns, rows, slices).

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
    try:
        segmentation = hd.seg.segread(path)
        _check_kind(segmentation, path, series)
        _check_segments(segmentation, path, target)
        # positions are often rounded to 0.1 mm; `_slices_of` looks at where they lie
        volume = segmentation.get_volume(combine_segments=True, atol=0.2, dtype=np.uint8)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(
            f"Cannot read {path} as a DICOM segmentation ({error}). Every voxel needs one class, "
            "and frames have to lie on the slices of the scan; export it anew, or as NIfTI."
        ) from error
    numbers = _slices_of(LPS_TO_RAS @ volume.affine, len(volume.array), path, series)
    mask = np.zeros(series.shape, dtype=np.uint8, order="F")
    mask[:, :, numbers] = volume.array.transpose(2, 1, 0)  # from (slices, rows, columns)
    return mask


def to_segmentation(mask: npt.NDArray[np.uint8], scan: Path) -> bytes:
    """Return the content of a DICOM segmentation with a segment for each class of a mask.

    Args:
        mask: class numbers in the order of the series' array (columns, rows, slices).
        scan: folder of the series.

    Raises:
        DataError: the series lacks what a segmentation needs; names it.
    """
    paths = [placed.path for placed in open_series(scan).slices]
    try:
        segmentation = Segmentation(
            source_images=[_header(path) for path in paths],
            pixel_array=np.ascontiguousarray(mask.transpose(2, 1, 0)),
            segmentation_type="BINARY",
            segment_descriptions=[_segment(n) for n in range(1, max(1, int(mask.max())) + 1)],
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="lightning_fl",
            manufacturer_model_name="lightning_fl",
            software_versions=version("lightning_fl"),
            device_serial_number="0",
        )
        content = io.BytesIO()
        segmentation.save_as(content)
    except DAMAGE as error:
        raise DataError(
            f"A DICOM segmentation of {scan} cannot be written ({error}); name a NIfTI file "
            "(.nii.gz) instead."
        ) from error
    return content.getvalue()


def _header(path: Path) -> Dataset:
    """Read the header of an image, with empty texts for what anonymisers take out."""
    header = dcmread(path, force=True, stop_before_pixels=True)
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    return header


def _segment(number: int) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=f"class {number}",
        segmented_property_category=codes.SCT.Tissue,  # what the classes mean is not told
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            "lightning_fl", codes.DCM.ArtificialIntelligence, version("lightning_fl")
        ),
    )


def _check_kind(segmentation: Segmentation, path: Path, series: DicomSeries) -> None:
    kind = segmentation.segmentation_type.value
    if kind != "BINARY":
        raise DataError(f"{path} is a segmentation of the type {kind!r}, but expected 'BINARY'.")
    first = series.slices[0]
    reference = str(segmentation.get("FrameOfReferenceUID") or "")
    if reference and first.frame_of_reference and reference != first.frame_of_reference:
        raise DataError(
            f"Segmentation {path} has the frame of reference {reference}, but its scan "
            f"{series.source} has {first.frame_of_reference}; it was drawn on another scan."
        )
    shape = (segmentation.Columns, segmentation.Rows)
    if shape != first.shape:
        raise DataError(
            f"Segmentation {path} has {shape[0]} x {shape[1]} pixels, but its scan "
            f"{series.source} has {first.shape[0]} x {first.shape[1]}."
        )


def _check_segments(segmentation: Segmentation, path: Path, target: MaskTarget) -> None:
    segments = sorted(int(number) for number in segmentation.segment_numbers)
    groups = (
        *segmentation.SharedFunctionalGroupsSequence,
        *segmentation.PerFrameFunctionalGroupsSequence,
    )
    named = (part for group in groups for part in group.get("SegmentIdentificationSequence", ()))
    unknown = sorted({int(part.ReferencedSegmentNumber) for part in named} - set(segments))
    if unknown:  # highdicom would pass over their frames
        raise DataError(f"{path} has frames of segments {unknown}, but describes {segments}.")
    target(np.array(segments), path)


def _slices_of(
    affine: npt.NDArray[np.float64], count: int, path: Path, series: DicomSeries
) -> npt.NDArray[np.intp]:
    """Return the slices of the series that the planes of a segmentation lie on.

    Args:
        affine: from (plane, row, column) of the segmentation to RAS+ mm.
        count: of the planes.
        path: of the segmentation.
        series: that it was drawn on.
    """
    corners = affine @ np.array([[number, 0, 0, 1] for number in range(count)]).T
    voxels = np.linalg.inv(series.affine) @ corners  # columns, rows and slices of the series
    numbers = np.rint(voxels[2]).astype(np.intp)
    on_slices = series.affine @ np.array([[0, 0, number, 1] for number in numbers]).T
    beside = float(np.linalg.norm((corners - on_slices)[:3], axis=0).max())
    plane = (*affine[:3, 2], *affine[:3, 1])
    turned = not nearly(plane, (*series.affine[:3, 0], *series.affine[:3, 1]))
    outside = numbers.min() < 0 or numbers.max() >= series.shape[2]
    if turned or outside or beside > tolerance(min(series.slices[0].spacing)):
        raise DataError(
            f"Segmentation {path} lies elsewhere than its scan {series.source}: frames "
            f"{'have other pixels' if turned else 'lie beyond its ends' if outside else ''}"
            f"{'' if turned or outside else f'lie {beside:.3f} mm beside its slices'}. Take the "
            "segmentation that was drawn on this series."
        )
    return np.asarray(numbers)
