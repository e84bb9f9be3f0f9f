"""Tiny CT files in the formats that scanners and tools write."""

import gzip
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SPACING = (0.7, 0.8, 2.5)
"""mm between columns, between rows and between slices."""

Array = npt.NDArray[Any]


def all_affines() -> list[npt.NDArray[np.float64]]:
    """One for each of the 48 ways to order and turn the axes, with unlike edges."""
    affines = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        for axis, (to, sign, edge) in enumerate(zip(order, signs, SPACING, strict=True)):
            affine[to, axis] = sign * edge
        affine[:3, 3] = (-17.25, 40.5, 100.125)
        affines.append(affine)
    return affines


def rotated(degrees: float) -> npt.NDArray[np.float64]:
    """An affine turned about the head-to-feet axis."""
    affine = np.diag([*SPACING, 1.0])
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    return affine


def noise(shape: tuple[int, ...] = (5, 6, 7), seed: int = 0) -> npt.NDArray[np.int16]:
    """HU between -1000 and 1000, both included."""
    hu = np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)
    hu.flat[:2] = -1000, 1000
    return hu


def write_nifti(
    path: Path,
    array: Array,
    affine: npt.NDArray[np.float64] | None = None,
    *,
    slope: float = 1,
    intercept: float = 0,
) -> Path:
    """`array` holds the stored numbers, which `slope` and `intercept` rescale."""
    chosen = np.diag([*SPACING, 1.0]) if affine is None else affine
    image = nib.Nifti1Image(array, chosen)  # type: ignore[no-untyped-call]
    image.header.set_data_dtype(array.dtype)  # type: ignore[no-untyped-call]
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([slope, intercept], dtype="<f4").tobytes()  # scl_slope, scl_inter
    packed = gzip.compress(bytes(content), 1) if path.suffix == ".gz" else bytes(content)
    path.write_bytes(packed)
    return path


def write_series(
    folder: Path,
    hu: npt.NDArray[np.int16],
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    series: str | None = None,
    frame_of_reference: str | None = None,
) -> list[Path]:
    """A CT series of `hu` (columns, rows, slices), stored with intercept -1024.

    Returns:
        The files in the order of the slices, which is not that of their names.
    """
    folder.mkdir(exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    series, reference = series or generate_uid(), frame_of_reference or generate_uid()
    study = generate_uid()
    names = np.random.default_rng(1).permutation(hu.shape[2])
    paths = []
    for number in range(hu.shape[2]):
        image = _image(hu[:, :, number].T)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.FrameOfReferenceUID = reference
        image.InstanceNumber = number + 1
        image.ImageOrientationPatient = [float(v) for v in orientation]
        position = np.add(origin, normal * SPACING[2] * number)
        image.ImagePositionPatient = [round(float(v), 6) for v in position]
        path = folder / f"image{names[number]:03d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def edit(path: Path, **values: Any) -> Path:
    """Change elements of a DICOM file; None deletes one."""
    dataset = dcmread(path)
    for name, value in values.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def write_segmentation(
    path: Path, series: Sequence[Path], masks: npt.NDArray[np.bool_], numbers: Sequence[int] = (1,)
) -> Path:
    """A DICOM segmentation by highdicom; its frames without a voxel are left out.

    Args:
        path: file to write.
        series: the CT's files, in order.
        masks: (columns, rows, slices, segments).
        numbers: of the segments.
    """
    made = hd.seg.Segmentation(
        source_images=[dcmread(file) for file in series],
        pixel_array=masks.transpose(2, 1, 0, 3).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(i + 1) for i in range(len(numbers))],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    for segment, number in zip(made.SegmentSequence, numbers, strict=True):
        segment.SegmentNumber = number
    shared = made.SharedFunctionalGroupsSequence
    for group in (*shared, *made.PerFrameFunctionalGroupsSequence):
        for named in group.get("SegmentIdentificationSequence", ()):
            named.ReferencedSegmentNumber = numbers[named.ReferencedSegmentNumber - 1]
    made.save_as(path)
    return path


def _segment(number: int) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"segment {number}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def _image(hu: npt.NDArray[np.int16]) -> Dataset:
    """A CT image of `hu` (rows, columns) without a place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.Modality, image.PatientID, image.PatientName = "CT", "P1", "Test^Person"
    image.PatientBirthDate = image.PatientSex = image.AccessionNumber = image.StudyID = ""
    image.StudyDate = image.StudyTime = image.ReferringPhysicianName = ""
    image.SeriesNumber = 1
    image.Rows, image.Columns = hu.shape
    image.PixelSpacing = [SPACING[1], SPACING[0]]
    image.SliceThickness = SPACING[2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    return image
