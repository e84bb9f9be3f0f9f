"""One patient from skin to vessels: Hounsfield units, then what a hospital makes of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datamodules.phantoms import anatomy, bones, vessels
from datamodules.phantoms.anatomy import Habitus
from datamodules.phantoms.geometry import (
    FIELD_OF_VIEW,
    FloatArray,
    SmoothNoise,
    Space,
    blend,
    coverage,
    image_space,
)
from datamodules.phantoms.lesions import Opacity, draw_lesions, opacity, outline
from datamodules.phantoms.profiles import Profile
from datamodules.phantoms.scanner import SUBLEVELS, scan, sublevels
from lightning_fl.seeds import derive_seed

AIR, FAT, MUSCLE, BLOOD, LIVER, SKIN = -1000.0, -105.0, 48.0, 42.0, 62.0, 20.0

SPACING = 14.0
"""Distance of neighbouring slices in mm, as long as the stack fits into `STACK`."""
STACK = 112.0
"""Height in mm of the imaged part of the chest, from the aortic arch to the diaphragm."""
MIDDLE = slice(SUBLEVELS // 2, None, SUBLEVELS)
"""Of the thin images behind the slices, those at the slices' own levels."""


@dataclass(frozen=True)
class Patient:
    """Everything that decides a patient's images.

    Attributes:
        seed: seed of this patient alone.
        slices: number of images.
        size: width and height of an image in pixels.
        profile: the hospital.
    """

    seed: int
    slices: int
    size: int
    profile: Profile

    def rng(self, purpose: str) -> np.random.Generator:
        """Return random numbers for one purpose, so that no part's draws move another's."""
        return np.random.default_rng(derive_seed(self.seed, purpose))


def levels(slices: int, centre: float) -> FloatArray:
    """Place the slices: levels in mm, 14 mm apart, or closer where there are many."""
    spacing = min(SPACING, STACK / slices)
    return (centre + spacing * (np.arange(slices) - (slices - 1) / 2)).astype(np.float32)


def render(patient: Patient) -> npt.NDArray[np.uint8]:
    """Draw images and masks of a patient, an 8-bit array of shape (2, slices, size, size)."""
    scanner = patient.profile.scanner
    rng = patient.rng("habitus")
    habitus, centre = anatomy.draw_habitus(rng), float(rng.uniform(14, 26))
    nominal = levels(patient.slices, centre)
    hu, disease = hounsfield(patient, habitus, sublevels(nominal, scanner.thickness))
    images = scan(hu, scanner, patient.rng("noise"))
    # Readers see the slice's own level, so that the scanner does not change their masks.
    return np.stack([images, outline(disease.on(MIDDLE), patient.profile.annotation)])


@dataclass(frozen=True)
class ChestView:
    """A patient at some levels.

    Attributes:
        patient: the patient.
        habitus: the patient's build.
        image: positions of the voxels.
        at: their positions in the standard chest, where all shapes are defined.
        wall: distance from the inner surface of the rib cage, positive inside.
    """

    patient: Patient
    habitus: Habitus
    image: Space
    at: Space
    wall: FloatArray

    def cover(self, distance: FloatArray) -> FloatArray:
        """Return the share of each voxel inside a shape."""
        return coverage(distance, FIELD_OF_VIEW / self.patient.size)

    def lung(self) -> FloatArray:
        """Return the share of each voxel that is lung, healthy or not."""
        mediastinum = anatomy.mediastinum(self.at, self.habitus)
        return self.cover(np.minimum(self.wall, -mediastinum - 1))


def look(patient: Patient, habitus: Habitus, at_levels: FloatArray) -> ChestView:
    """Look at a patient at some levels."""
    image = image_space(at_levels, patient.size)
    at = _standard_space(image, habitus, patient.rng("asymmetry"))
    return ChestView(patient, habitus, image, at, anatomy.cavity(at))


def hounsfield(
    patient: Patient,
    habitus: Habitus,
    thin: FloatArray,
    reach: tuple[float, float] | None = None,
) -> tuple[FloatArray, Opacity]:
    """Compute the patient's true Hounsfield units at some levels, and the lesions in them.

    Args:
        patient: the patient.
        habitus: the patient's build.
        thin: the levels.
        reach: first and last level of the part that the lesions are drawn for, so that they do not
            depend on the levels shown; None takes the part that is shown.
    """
    view = look(patient, habitus, thin)
    hu = _chest_wall(view)
    _fill_mediastinum(hu, view)
    lung = view.lung()
    shown = thin[MIDDLE]
    reach = reach or (float(shown[0]), float(shown[-1]))
    lesions = draw_lesions(patient.rng("lesions"), patient.profile.disease, habitus, reach)
    disease = opacity(view.image, view.at, lesions, lung, patient.rng("edges"))
    blend(hu, _parenchyma(view, disease), lung)
    _draw_bones(hu, view)
    for airway in anatomy.airways():
        blend(hu, AIR, view.cover(airway.distance(view.at)))
    return hu, disease


def _standard_space(image: Space, habitus: Habitus, rng: np.random.Generator) -> Space:
    """Place each voxel of this patient in the standard chest: scaled and a little bent."""
    bend_x, bend_y = (SmoothNoise(rng, 95)(image) * 3.5 for _ in range(2))
    return Space(image.x / habitus.width + bend_x, image.y / habitus.depth + bend_y, image.z)


def _chest_wall(view: ChestView) -> FloatArray:
    """Draw skin, fat and muscle in air."""
    rng = view.patient.rng("wall")
    strands, planes = SmoothNoise(rng, 14)(view.image), SmoothNoise(rng, 9)(view.image)
    skin = anatomy.body(view.at, view.habitus.fat)
    inside = view.cover(skin)
    hu = np.full(view.wall.shape, AIR, dtype=np.float32)
    blend(hu, FAT + 9 * strands, inside)
    blend(hu, SKIN, view.cover(1.6 - np.abs(skin - 1)) * inside)
    muscle = anatomy.muscle(view.at, view.wall, view.habitus.muscle) + 2.5 * strands
    # Thin planes of fat between the muscles: where a noise field crosses zero.
    seam = np.exp(-np.square(planes * 5)) * (view.wall < -11)
    blend(hu, MUSCLE - 110 * seam, view.cover(np.minimum(muscle, skin - 3)))
    return hu


def _fill_mediastinum(hu: FloatArray, view: ChestView) -> None:
    """Draw fat inside the rib cage, and in it heart, vessels and liver."""
    at, wall, habitus = view.at, view.wall, view.habitus
    blend(hu, FAT + 15, view.cover(wall - 1))
    for chamber in anatomy.heart(habitus):
        blend(hu, BLOOD, view.cover(np.minimum(chamber.distance(at), wall) - 3))
    for tube in anatomy.great_vessels(habitus):
        blend(hu, BLOOD, view.cover(tube.distance(at) - 0.5))
    for dome in anatomy.domes(habitus):
        blend(hu, LIVER, view.cover(np.minimum(dome.distance(at), wall)))
    for airway in anatomy.airways():
        blend(hu, MUSCLE, view.cover(airway.distance(at) + 1.5))


def _parenchyma(view: ChestView, disease: Opacity) -> FloatArray:
    """Return Hounsfield units of lung: air spaces, lesions, vessels and bronchi."""
    rng, habitus, size = view.patient.rng("lung"), view.habitus, view.patient.size
    fine, coarse = SmoothNoise(rng, 7)(view.image), SmoothNoise(rng, 24)(view.image)
    back = np.clip((view.at.y + 70) / 150, 0, 1)
    hu = habitus.lung + habitus.gravity * back
    hu += 14 * fine + 12 * coarse
    blend(hu, disease.ground_glass, disease.severity)
    arteries, veins = (
        vessels.stretch(tree, habitus.width, habitus.depth) for tree in vessels.grow(rng, habitus)
    )
    bronchi = vessels.bronchi(arteries)
    thin = view.image.z.ravel()
    blend(hu, BLOOD, vessels.splat(arteries, thin, size))
    blend(hu, BLOOD, vessels.splat(veins, thin, size))
    blend(hu, BLOOD, vessels.splat(bronchi, thin, size, radius=1.1))
    blend(hu, BLOOD - 15, disease.core)
    blend(hu, AIR, vessels.splat(bronchi, thin, size, radius=0.8))
    return hu


def _draw_bones(hu: FloatArray, view: ChestView) -> None:
    """Draw ribs, shoulder blades, breast bone and spine."""
    vertebrae, disc, canal = bones.spine(view.at)
    blend(hu, MUSCLE + 35, view.cover(disc))
    blend(hu, FAT + 110, view.cover(canal))
    for distance, marrow in (
        (bones.ribs(view.at, view.wall, view.habitus.rib_phase), 210.0),
        (bones.scapulae(view.at), 250.0),
        (bones.sternum(view.at), 130.0),
        (vertebrae, 170.0),
    ):
        blend(hu, bones.bone_value(distance, view.habitus.bone, marrow), view.cover(distance))
