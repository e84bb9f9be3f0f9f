"""The table of RAD-ChestCT: its columns, and plausible values in them."""

from dataclasses import dataclass

import numpy as np

from datamodules.examples.phantom_volume import LOWEST, PhantomVolume
from datamodules.phantoms.scanner import Scanner
from lightning_fl.seeds import derive_seed

Row = dict[str, str | int | float]

MISSING = "ATTR_VALUE_NOT_FOUND"
"""What the table says where a scanner did not store something."""

COLUMNS = (
    *("VolumeAcc_DEID", "NoteAcc_DEID", "MRN_DEID", "Set_Assigned", "Subset_Assigned"),
    *("PatientAge", "PatientSex", "EthnicGroup", "Manufacturer", "ManufacturerModelName"),
    *("InstitutionName", "StationName", "SoftwareVersions", "ConvolutionKernel", "ProtocolName"),
    *("StudyDescription", "Modality", "SliceThickness", "SpacingBetweenSlices", "KVP"),
    *("IterativeReconAnnotation", "IterativeReconConfiguration", "IterativeReconLevel"),
    *("ReconAlgo", "ReconAlgoManuf", "orig_square", "orig_numslices", "orig_slope", "orig_inter"),
    *("orig_yxspacing", "orig_zdiff", "orig_orientation", "orig_gantry_tilt"),
    *("shape0", "shape1", "shape2"),
    *("infection_to_lung_ratio", "binary_infection_to_lung_ratio", "client"),
)
"""Those of the data set, then what the paper adds: its labels, and the client of each volume."""


@dataclass(frozen=True)
class Machine:
    """A client's scanner.

    Attributes:
        scanner: what it does to images; mild differences, as between scanners of one hospital.
        tags: what it writes into the table; what it leaves out is missing there.
        spaced: it stores the distance of its slices.
    """

    scanner: Scanner
    tags: dict[str, str]
    spaced: bool


MACHINES = (
    Machine(
        Scanner(thickness=0.625, blur=1.0, noise=20),
        {
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "ManufacturerModelName": "Discovery CT750 HD",
            "SoftwareVersions": "gmp_hde.99",
            "ConvolutionKernel": "STANDARD",
            "IterativeReconAnnotation": "ASiR",
            "IterativeReconConfiguration": "SS40",
            "IterativeReconLevel": "40",
            "ReconAlgo": "ASiR",
        },
        spaced=True,
    ),
    Machine(
        Scanner(thickness=1.0, blur=0.8, overshoot=0.5, noise=32, offset=8),
        {
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "SOMATOM Definition Flash",
            "SoftwareVersions": "syngo CT 2014A",
            "ConvolutionKernel": "B50f",
            "ReconAlgoManuf": "SAFIRE",
        },
        spaced=False,
    ),
    Machine(
        Scanner(thickness=2.5, blur=1.5, noise=14, offset=-6, gain=0.99),
        {
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "ManufacturerModelName": "LightSpeed VCT",
            "SoftwareVersions": "07MW11.10",
            "ConvolutionKernel": "SOFT",
        },
        spaced=False,
    ),
)
"""Of clients 1, 2 and 3; client 4 is like 1, and so on."""


def metadata(name: str, mrn: str, client: int, machine: Machine, volume: PhantomVolume) -> Row:
    """Fill in a volume's row; `name` has no suffix, and clients are numbered from 1."""
    row: Row = dict.fromkeys(COLUMNS, MISSING)
    row |= {"VolumeAcc_DEID": f"{name}.npz", "NoteAcc_DEID": name, "MRN_DEID": mrn}
    row |= {"Set_Assigned": "imgtrain_extra", "Subset_Assigned": "imgtrain"}
    row |= _person(mrn) | machine.tags
    row |= {"InstitutionName": f"Hospital {client}", "StationName": f"CT{client}"}
    row |= {"ProtocolName": "CHEST", "StudyDescription": "CT CHEST WO CONTRAST", "Modality": "CT"}
    row |= {"SliceThickness": machine.scanner.thickness, "KVP": 120}
    row |= _geometry(volume, machine.spaced) | _labels(volume)
    return row | {"client": client}


def _person(mrn: str) -> Row:
    """Draw age, sex and ethnic group, the same on every visit."""
    rng = np.random.default_rng(derive_seed(0, mrn, "person"))
    return {
        "PatientAge": f"{rng.integers(24, 90):03d}Y",
        "PatientSex": str(rng.choice(["F", "M"])),
        "EthnicGroup": str(rng.choice(["NOT HISPANIC", "HISPANIC", MISSING], p=[0.7, 0.1, 0.2])),
    }


def _geometry(volume: PhantomVolume, spaced: bool) -> Row:
    """Return sizes and spacings."""
    slices, height, width = volume.hu.shape
    between, row, _ = (round(mm, 4) for mm in volume.spacing)
    geometry: Row = {"shape0": slices, "shape1": height, "shape2": width}
    geometry |= {"orig_square": height, "orig_numslices": slices}
    geometry |= {"orig_slope": 1, "orig_inter": LOWEST, "orig_gantry_tilt": 0}
    geometry |= {"orig_yxspacing": row, "orig_zdiff": between, "orig_orientation": "1,0,0,0,1,0"}
    return geometry | ({"SpacingBetweenSlices": between} if spaced else {})


def _labels(volume: PhantomVolume) -> Row:
    """Return the share of the lung that is infected, and whether any is."""
    ratio = float((volume.mask > 0).sum() / volume.lung.sum())
    return {
        "infection_to_lung_ratio": f"{ratio:.6f}",
        "binary_infection_to_lung_ratio": +(ratio > 0),
    }
