"""COVID-19 CT of several hospitals: NIfTI files and DICOM series, as each of them exports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.examples.dicom_writer import series, write_series
from datamodules.examples.example import Amount, ExampleData
from datamodules.examples.nifti_writer import write_nifti
from datamodules.examples.orientation import oriented, turned
from datamodules.examples.phantom_volume import (
    LOWEST,
    PhantomVolume,
    phantom_volume,
    slice_spacing,
)
from datamodules.examples.segmentation_writer import write_segmentation
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import SHIFTS, Profile, profile
from lightning_fl.seeds import derive_seed

CT, MASK, SERIES, SEGMENTATION = "ct.nii.gz", "mask.nii.gz", "ct", "mask.dcm"


@dataclass(frozen=True)
class Export:
    """A patient to be written.

    Attributes:
        volume: the scan.
        patient: the patient's name.
        number: the patient's number at this hospital, from 0.
        profile: the hospital.
    """

    volume: PhantomVolume
    patient: str
    number: int
    profile: Profile


def write_oriented(folder: Path, export: Export, codes: str) -> None:
    """Write NIfTI whose axes run to these sides, e.g. "LPS" to the left, the back and the head."""
    stored = oriented(export.volume, codes)
    write_nifti(folder / CT, stored.hu, stored.affine)
    write_nifti(folder / MASK, stored.mask, stored.affine)


def write_turned(folder: Path, export: Export) -> None:
    """Write NIfTI a few degrees off the body's axes, slices first, in half units from 0."""
    stored = oriented(turned(export.volume, about_x=3, about_z=4), "IPL")
    halves = (2 * (stored.hu.astype(np.int32) - LOWEST)).astype(np.uint16)
    write_nifti(folder / CT, halves, stored.affine, scaling=(0.5, LOWEST))
    write_nifti(folder / MASK, stored.mask, stored.affine)


def write_dicom(folder: Path, export: Export) -> None:
    """Write a DICOM series, and its mask as DICOM for every other patient, else as NIfTI."""
    images = series(export.volume, export.patient, export.profile.scanner)
    rng = np.random.default_rng(derive_seed(0, export.patient, "file names"))
    write_series(folder / SERIES, images, rng)
    if export.number % 2 == 0:
        write_segmentation(folder / SEGMENTATION, export.volume.mask, images)
    else:
        stored = oriented(export.volume, "LPS")
        write_nifti(folder / MASK, stored.mask, stored.affine)


WRITERS: tuple[Callable[[Path, Export], None], ...] = (
    partial(write_oriented, codes="LPS"),  # as most programs make it from DICOM
    write_turned,
    write_dicom,
    partial(write_oriented, codes="RAS"),  # the axes of neuroimaging
)
"""Of sites A, B, C and D; E is like A, and so on."""

DENSITY = (1.0, 0.6, 0.8, 0.9)
"""Slices at these sites, as a share of what is asked for: site B's are the thickest."""


def make(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `folder/<site>/<patient>/`; hospitals differ as those of `ChestPhantoms` do.

    Slices are as thick as they are far apart, so that nothing of a patient is left out.
    """
    for place, site in enumerate(amount.site_names):
        slices = max(1, round(DENSITY[place % len(DENSITY)] * amount.slices))
        seen_as = profile(site, SHIFTS)
        scanner = replace(seen_as.scanner, thickness=slice_spacing(slices))
        seen_as = replace(seen_as, scanner=scanner)
        for number, (name, seed) in enumerate(amount.patients_of(site)):
            volume = phantom_volume(Patient(seed, slices, amount.size, seen_as))
            target = folder / site / name
            target.mkdir(parents=True)
            WRITERS[place % len(WRITERS)](target, Export(volume, name, number, seen_as))
            yield name


CONFIGS = ("configs/covid_ct.yaml", "configs/overrides/tiny_covid.yaml")
COVID = ExampleData(CONFIGS, Amount(sites=3, patients=6, size=64, slices=40), make)
