"""Lesions of viral pneumonia in three dimensions, and the readers who outline them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.phantoms.anatomy import Habitus, cavity, lungs
from datamodules.phantoms.geometry import (
    FIELD_OF_VIEW,
    Ellipsoid,
    FloatArray,
    SmoothNoise,
    Space,
    smoothstep,
)

Extent = Literal["consolidation", "ground_glass", "halo"]

HALO = 0.22
"""Severity at which the faint rim around a lesion begins; `GROUND_GLASS` is its clear outline."""
GROUND_GLASS = 0.5
CONSOLIDATION = 0.5

SPECK = 60.0
"""Area in square mm below which readers do not outline an island."""


@dataclass(frozen=True)
class Disease:
    """The pneumonia that a hospital sees.

    Attributes:
        healthy: share of patients without a lesion.
        lesions: fewest and most lesions of a patient.
        radius: smallest and largest radius of a lesion in mm.
        ground_glass: mean Hounsfield units of ground glass.
        consolidated: share of lesions with a consolidated core.
        core: size of that core relative to the lesion.
    """

    healthy: float = 0.0
    lesions: tuple[int, int] = (1, 4)
    radius: tuple[float, float] = (27.0, 50.0)
    ground_glass: float = -470.0
    consolidated: float = 0.6
    core: float = 0.6


@dataclass(frozen=True)
class Reader:
    """The person who draws a hospital's masks.

    Attributes:
        extent: marks consolidation only, ground glass too, or also the faint halo around it.
        margin: distance in mm at which the outline is drawn outside of that.
    """

    extent: Extent = "ground_glass"
    margin: float = 0.0


@dataclass(frozen=True)
class Lesion:
    """One lesion: its shape, the mean density of its ground glass and the size of its core."""

    shape: Ellipsoid
    ground_glass: float
    core: float


@dataclass(frozen=True)
class Opacity:
    """Lesions on a stack of images, each field of shape (levels, size, size).

    Attributes:
        severity: 0 in healthy lung, 1 inside a lesion.
        core: 0 outside of a consolidation, 1 inside.
        ground_glass: Hounsfield units that ground glass has there.
    """

    severity: FloatArray
    core: FloatArray
    ground_glass: FloatArray

    def on(self, images: slice) -> "Opacity":
        """Return the lesions on some of the images."""
        return Opacity(self.severity[images], self.core[images], self.ground_glass[images])


def draw_lesions(
    rng: np.random.Generator, disease: Disease, habitus: Habitus, reach: tuple[float, float]
) -> tuple[Lesion, ...]:
    """Draw a patient's lesions; the first one lies well within the imaged levels `reach`.

    Every lesion takes equally many random numbers whatever the disease. So hospitals with other
    settings see the same patient with larger, denser or more lesions.
    """
    healthy, count = rng.random(2)
    fewest, most = disease.lesions
    n = 0 if healthy < disease.healthy else fewest + int(count * (most - fewest + 1))
    drawn = []
    for i in range(n):
        middle = 0.5 * (reach[0] + reach[1])
        half = (0.32 if i == 0 else 0.5) * (reach[1] - reach[0])
        z = float(middle + half * rng.uniform(-1, 1))
        drawn.append(_draw_lesion(rng, disease, habitus, z, surely_dense=i == 0))
    return tuple(drawn)


def opacity(
    image: Space,
    at: Space,
    lesions: tuple[Lesion, ...],
    lung: FloatArray,
    rng: np.random.Generator,
) -> Opacity:
    """Draw severity and density of the lesions, with irregular, fuzzy edges.

    Args:
        image: positions of the voxels, for the roughness.
        at: their positions in the standard chest, for the shapes.
        lesions: the patient's lesions.
        lung: share of each voxel that is lung; lesions stop at the pleura.
        rng: roughens the lesions.
    """
    coarse, fine, grain = (SmoothNoise(rng, wavelength)(image) for wavelength in (26, 12, 6.5))
    rough = 0.24 * coarse + 0.17 * fine
    severity, core = np.zeros_like(lung), np.zeros_like(lung)
    density = np.full_like(lung, -500)
    for lesion in lesions:
        radial = lesion.shape.radial(at)
        depth = 1 - radial + rough
        here = smoothstep(depth, -0.02, 0.42)
        density = np.where(here > severity, lesion.ground_glass, density)
        severity = np.maximum(severity, here)
        if lesion.core > 0:
            inner = depth - (1 - lesion.core) + 0.12 * fine
            core = np.maximum(core, smoothstep(inner, 0.0, 0.25))
    texture = 45 * fine + 40 * grain
    core = np.minimum(core, severity)  # so that what readers mark is nested
    return Opacity(severity * lung, core * lung, np.clip(density + texture, -750, -250))


def outline(opacity: Opacity, reader: Reader) -> npt.NDArray[np.uint8]:
    """Draw a reader's mask of each image: 1 is infection, 0 is not."""
    marked = {
        "consolidation": opacity.core > CONSOLIDATION,
        "ground_glass": opacity.severity > GROUND_GLASS,
        "halo": opacity.severity > HALO,
    }[reader.extent]
    pixel = FIELD_OF_VIEW / marked.shape[-1]
    for image in marked:
        image &= ~_specks(image, pixel)
        if reader.margin > 0 and image.any():
            image |= ndimage.distance_transform_edt(~image) * pixel <= reader.margin
    return marked.astype(np.uint8)


def _specks(image: npt.NDArray[np.bool_], pixel: float) -> npt.NDArray[np.bool_]:
    """Find islands too small for a reader to outline."""
    islands, _ = ndimage.label(image)
    area = np.bincount(islands.ravel()) * pixel * pixel
    small: npt.NDArray[np.bool_] = (area < SPECK)[islands]
    return small


def _draw_lesion(
    rng: np.random.Generator, disease: Disease, habitus: Habitus, z: float, surely_dense: bool
) -> Lesion:
    size, flat, tall, tone, dense, turn = rng.random(6).tolist()
    small, large = disease.radius
    radius = small + size * (large - small)
    centre = _place(rng, habitus, z)
    along_wall = float(np.rad2deg(np.arctan2(-centre[0], centre[1])))
    shape = Ellipsoid(
        centre,
        (radius * (1 + 0.5 * flat), radius * (1 - 0.3 * flat), radius * (0.5 + 0.35 * tall)),
        degrees=along_wall + 30 * (turn - 0.5),
    )
    has_core = surely_dense or dense < disease.consolidated
    core = disease.core * (0.8 + 0.4 * tone) if has_core and disease.consolidated > 0 else 0.0
    return Lesion(shape, float(disease.ground_glass + 120 * (tone - 0.5)), core)


def _place(rng: np.random.Generator, habitus: Habitus, z: float) -> tuple[float, float, float]:
    """Draw a centre near the pleura, more often at the back, and inside the lung."""
    while True:
        side = 1 if rng.random() < 0.5 else -1
        angle = 0.35 + 2.3 * rng.beta(1.3, 2.6)  # 0 at the spine, pi at the sternum
        direction = np.array([side * np.sin(angle), np.cos(angle)])
        steps = np.arange(0, 160, 1.0, dtype=np.float32)
        ray = Space(direction[0] * steps, direction[1] * steps, np.full_like(steps, z))
        wall = float(steps[np.argmax(cavity(ray) < 0)])
        distance = wall - rng.uniform(4, 26)
        x, y = (distance * direction).tolist()
        point = Space(*(np.array([v], dtype=np.float32) for v in (x, y, z)))
        if lungs(point, habitus)[0] > 2:
            return x, y, z
