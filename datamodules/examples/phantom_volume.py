"""Chest phantoms as whole CT volumes in Hounsfield units, with their place in space."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datamodules.phantoms import anatomy
from datamodules.phantoms.geometry import FIELD_OF_VIEW, FloatArray
from datamodules.phantoms.lesions import outline
from datamodules.phantoms.patient import MIDDLE, Patient, hounsfield, look
from datamodules.phantoms.scanner import SUBLEVELS, measure, sublevels
from lightning_fl.seeds import derive_seed

CENTRE, HEIGHT = 20.0, 160.0
"""Middle and height in mm of a volume: from above the aortic arch to below the diaphragm's top."""
REACH = (CENTRE - 49.0, CENTRE + 49.0)
"""Levels between which the phantom's lesions lie, whatever part a volume shows."""
LOWEST, HIGHEST = -1024, 3071
"""Ends of the 12-bit scale that scanners store."""
CHUNK = 2**22
"""Voxels computed at a time, about 20 float32 arrays of them; more take no less time."""


@dataclass(frozen=True)
class PhantomVolume:
    """A CT volume, its slices from head to feet; all arrays are (slices, height, width).

    Attributes:
        hu: int16 Hounsfield units.
        mask: uint8, 1 where the hospital's reader marks infection.
        lung: True where at least half of the voxel is lung, healthy or not.
        affine: 4 x 4 matrix from the indices of the arrays to mm to the right, to the front and to
            the head (the R, A and S of NIfTI); z = 0 is the level of the carina.
    """

    hu: npt.NDArray[np.int16]
    mask: npt.NDArray[np.uint8]
    lung: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances in mm of slices, rows and columns."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return z, y, x


def slice_spacing(slices: int) -> float:
    """Return the distance in mm of the slices of a volume."""
    return HEIGHT / slices


def phantom_volume(patient: Patient, visit: int = 0) -> PhantomVolume:
    """Scan a patient from the aortic arch to the diaphragm.

    Lesions belong to the patient, so other slices, sizes or scanners show the same ones.

    Args:
        patient: the patient, with the number of slices and the hospital.
        visit: another number gives another scan of the same chest: other noise, and slices that
            lie up to 5 mm higher or lower.
    """
    habitus = anatomy.draw_habitus(patient.rng("habitus"))
    levels = _levels(patient, visit)
    noise = np.random.default_rng(derive_seed(patient.seed, "volume noise", visit))
    thin_voxels = len(levels) * SUBLEVELS * patient.size**2
    chunks = np.array_split(levels, min(len(levels), -(-thin_voxels // CHUNK)))
    parts = [_scan(patient, habitus, chunk, noise) for chunk in chunks]
    hu, mask, lung = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return PhantomVolume(hu, mask, lung, _affine(levels, patient.size))


def _scan(
    patient: Patient, habitus: anatomy.Habitus, levels: FloatArray, noise: np.random.Generator
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Scan some levels: Hounsfield units, mask and lung."""
    scanner = patient.profile.scanner
    true, disease = hounsfield(patient, habitus, sublevels(levels, scanner.thickness), REACH)
    measured = np.clip(np.rint(measure(true, scanner, noise)), LOWEST, HIGHEST)
    # Readers see the slice's own level, so that the scanner does not change their masks.
    mask = outline(disease.on(MIDDLE), patient.profile.annotation)
    lung = look(patient, habitus, levels).lung() >= 0.5
    return measured.astype(np.int16), mask, np.asarray(lung)


def _levels(patient: Patient, visit: int) -> FloatArray:
    spacing = slice_spacing(patient.slices)
    rng = np.random.default_rng(derive_seed(patient.seed, "bed", visit))
    centre = CENTRE + rng.uniform(-5, 5) if visit else CENTRE
    steps = np.arange(patient.slices) - (patient.slices - 1) / 2
    return (centre + spacing * steps).astype(np.float32)


def _affine(levels: FloatArray, size: int) -> npt.NDArray[np.float64]:
    """Return the affine. The phantom's axes run to feet, back and left, NIfTI's against them."""
    pixel = FIELD_OF_VIEW / size
    affine = np.zeros((4, 4))
    affine[2, 0] = -slice_spacing(len(levels))
    affine[1, 1] = affine[0, 2] = -pixel
    corner = (0.5 / size - 0.5) * FIELD_OF_VIEW
    affine[:, 3] = -corner, -corner, -float(levels[0]), 1
    return affine
