"""Writes a mask as a DICOM segmentation of a series."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from datamodules.examples.dicom_writer import DATE, MANUFACTURER, MODEL, TIME, uid


def write_segmentation(path: Path, mask: npt.NDArray[np.uint8], images: list[Dataset]) -> None:
    """Write a mask (slices, height, width) with one segment, "infection", of the series `images`.

    Slices without infection are left out, as DICOM allows and most programs do.
    """
    patient = str(images[0].PatientID)
    infection = SegmentDescription(
        segment_number=1,
        segment_label="infection",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )
    segmentation = Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[infection],
        series_instance_uid=uid(patient, "segmentation series"),
        series_number=100,
        sop_instance_uid=uid(patient, "segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions="1",
        device_serial_number="1",
        content_label="INFECTION",
        omit_empty_frames=bool(mask.any()),
    )
    _make_repeatable(segmentation)
    segmentation.save_as(path, enforce_file_format=True)


def _make_repeatable(segmentation: Segmentation) -> None:
    """Replace what highdicom fills with the time and random numbers: every file would differ."""
    fixed = {
        "InstanceCreationDate": DATE,
        "InstanceCreationTime": TIME,
        "ContentDate": DATE,
        "ContentTime": TIME,
        "ContributionDateTime": DATE + TIME,
        "DimensionOrganizationUID": uid(segmentation.SOPInstanceUID, "dimensions"),
    }
    for element in segmentation.iterall():
        if element.keyword in fixed:
            element.value = fixed[element.keyword]
