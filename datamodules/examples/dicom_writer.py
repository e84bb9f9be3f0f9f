"""Writes a volume as a DICOM series, one file a slice, the same bytes every time."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from datamodules.examples.phantom_volume import LOWEST, PhantomVolume
from datamodules.phantoms.scanner import Scanner

DATE, TIME = "20200315", "101500"
MANUFACTURER, MODEL = "Phantom", "Chest phantom"


def series(volume: PhantomVolume, patient: str, scanner: Scanner) -> list[Dataset]:
    """Make CT images of the slices, from head to feet, of an axial volume that is not turned."""
    return [_image(volume, number, patient, scanner) for number in range(len(volume.hu))]


def write_series(folder: Path, images: list[Dataset], rng: np.random.Generator) -> None:
    """Write the files of a series, named in an order that says nothing, as archives do."""
    folder.mkdir(parents=True)
    for image, number in zip(images, rng.permutation(len(images)), strict=True):
        image.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)


def uid(*labels: str | int) -> UID:
    """Make a unique identifier that depends on the labels alone."""
    return generate_uid(entropy_srcs=["lightning_fl", *map(str, labels)])


def _image(volume: PhantomVolume, number: int, patient: str, scanner: Scanner) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = uid(patient, "slice", number)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.InstanceNumber = number + 1
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    _describe(image, patient)
    _place(image, volume, number, scanner)
    _fill(image, volume.hu[number])
    return image


def _describe(image: Dataset, patient: str) -> None:
    """Fill in patient, study, series and equipment."""
    image.PatientID = image.StudyID = patient
    image.PatientName = f"Phantom^{patient}"
    image.PatientBirthDate = image.PatientSex = ""
    image.StudyInstanceUID = uid(patient, "study")
    image.SeriesInstanceUID = uid(patient, "series")
    image.FrameOfReferenceUID = uid(patient, "space")
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = DATE
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = TIME
    image.AccessionNumber = image.ReferringPhysicianName = ""
    image.Modality, image.SeriesNumber = "CT", 2
    image.BodyPartExamined, image.PatientPosition = "CHEST", "HFS"
    image.Manufacturer, image.ManufacturerModelName = MANUFACTURER, MODEL
    image.KVP, image.AcquisitionNumber = 120, 1


def _place(image: Dataset, volume: PhantomVolume, number: int, scanner: Scanner) -> None:
    """Fill in where the slice lies, in the axes of DICOM: to the left, the back and the head."""
    _, row, column = volume.spacing
    right, front, head, _ = (volume.affine @ [number, 0, 0, 1]).tolist()
    # At most 16 characters a number; a millionth of a millimetre is enough.
    image.ImagePositionPatient = [round(v, 6) for v in (-right, -front, head)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [round(row, 6), round(column, 6)]
    image.SliceThickness = round(scanner.thickness, 3)
    image.SliceLocation = round(head, 6)
    image.PositionReferenceIndicator = ""


def _fill(image: Dataset, hu: npt.NDArray[np.int16]) -> None:
    """Fill in pixels as scanners store them: 12 bits from 0; -1024 makes Hounsfield units."""
    image.Rows, image.Columns = hu.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, LOWEST, "HU"
    image.PixelData = (hu - LOWEST).astype("<u2").tobytes()
