"""COVID-19 CT of several hospitals: NIfTI files and DICOM series, as each of them exports."""

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.examples.dicom import series, write_series
from datamodules.examples.dicom_seg import write_segmentation
from datamodules.examples.example import Amount, Example
from datamodules.examples.nifti import write_nifti
from datamodules.examples.orientation import oriented, turned
from datamodules.examples.phantom_volume import (
    LOWEST,
    PhantomVolume,
    phantom_volume,
    slice_spacing,
)
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.sites import SHIFTS, Profile, profile
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


def write_usual(folder: Path, export: Export) -> None:
    """NIfTI as made from DICOM by most programs: to the left, to the back, to the head."""
    stored = oriented(export.volume, "LPS")
    write_nifti(folder / CT, stored.hu, stored.affine)
    write_nifti(folder / MASK, stored.mask, stored.affine)


def write_turned(folder: Path, export: Export) -> None:
    """NIfTI with slices first, a few degrees off the body's axes, stored in half units from 0."""
    volume = turned(export.volume, about_x=3, about_z=4)
    stored = oriented(volume, "IPL")
    halves = (2 * (stored.hu.astype(np.int32) - LOWEST)).astype(np.uint16)
    write_nifti(folder / CT, halves, stored.affine, scaling=(0.5, LOWEST))
    write_nifti(folder / MASK, stored.mask, stored.affine)


def write_dicom(folder: Path, export: Export) -> None:
    """A DICOM series; its mask is a DICOM segmentation for every other patient, or NIfTI."""
    images = series(export.volume, export.patient, export.profile.scanner)
    rng = np.random.default_rng(derive_seed(0, export.patient, "file names"))
    write_series(folder / SERIES, images, rng)
    if export.number % 2 == 0:
        write_segmentation(folder / SEGMENTATION, export.volume.mask, images)
    else:
        stored = oriented(export.volume, "LPS")
        write_nifti(folder / MASK, stored.mask, stored.affine)


def write_reversed(folder: Path, export: Export) -> None:
    """NIfTI in the axes of neuroimaging: to the right, to the front, to the head."""
    stored = oriented(export.volume, "RAS")
    write_nifti(folder / CT, stored.hu, stored.affine)
    write_nifti(folder / MASK, stored.mask, stored.affine)


WRITERS: tuple[Callable[[Path, Export], None], ...] = (
    write_usual,
    write_turned,
    write_dicom,
    write_reversed,
)
"""Of sites A, B, C and D; E is like A, and so on."""

DENSITY = (1.0, 0.6, 0.8, 0.9)
"""Slices at these sites, as a share of what is asked for: site B's are the thickest."""


def make(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `folder/<site>/<patient>/`; hospitals differ as those of `ChestPhantoms` do.

    Slices are as thick as they are far apart, so that nothing of a patient is left out.
    """
    for place, site in enumerate(string.ascii_uppercase[: amount.sites]):
        slices = max(1, round(DENSITY[place % len(DENSITY)] * amount.slices))
        seen_as = profile(site, SHIFTS)
        scanner = replace(seen_as.scanner, thickness=slice_spacing(slices))
        seen_as = replace(seen_as, scanner=scanner)
        for number in range(amount.patients):
            name = f"{site}-{number + 1:03d}"
            seed = derive_seed(amount.seed, site, name)
            volume = phantom_volume(Patient(seed, slices, amount.size, seen_as))
            target = folder / site / name
            target.mkdir(parents=True)
            WRITERS[place % len(WRITERS)](target, Export(volume, name, number, seen_as))
            yield name


CONFIGS = ("configs/covid_ct.yaml", "configs/overrides/tiny_covid.yaml")
COVID = Example(CONFIGS, Amount(sites=3, patients=6, size=64, slices=40), make)
