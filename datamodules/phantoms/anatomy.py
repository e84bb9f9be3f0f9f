"""A patient's chest: which tissue is where, as shapes in millimetres.

z = 0 is the level of the carina; the stack of images reaches from the aortic arch to the domes of
the diaphragm. Sizes follow adults; `Habitus` varies them between patients.
"""

import functools
from dataclasses import dataclass

import numpy as np

from datamodules.phantoms.geometry import Ellipsoid, FloatArray, Space, Tube, union

COLUMN = np.inf
"""Radius along z of something that runs through the whole chest."""


@dataclass(frozen=True)
class Habitus:
    """What differs between patients, in mm unless said otherwise.

    Attributes:
        width: scale of the chest from side to side.
        depth: scale of the chest from front to back.
        fat: thickness of the fat under the skin.
        muscle: scale of the muscles' thickness.
        heart: scale of the heart.
        heart_top: level at which the heart begins.
        dome: level of the top of the right diaphragm.
        rib_phase: height of the ribs, a fraction of their spacing.
        bone: Hounsfield units of cortical bone.
        lung: Hounsfield units of lung at the front; `gravity` is added towards the back.
        gravity: difference of the lung's Hounsfield units between back and front.
    """

    width: float
    depth: float
    fat: float
    muscle: float
    heart: float
    heart_top: float
    dome: float
    rib_phase: float
    bone: float
    lung: float
    gravity: float


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """Draw a patient."""
    return Habitus(
        width=rng.uniform(0.88, 1.06),
        depth=rng.uniform(0.88, 1.10),
        fat=rng.uniform(4, 16),
        muscle=rng.uniform(0.75, 1.25),
        heart=rng.uniform(0.88, 1.15),
        heart_top=rng.uniform(12, 26),
        dome=rng.uniform(48, 85),
        rib_phase=rng.uniform(0, 1),
        bone=rng.uniform(450, 700),
        lung=rng.uniform(-900, -850),
        gravity=rng.uniform(40, 110),
    )


def cavity(at: Space) -> FloatArray:
    """Measure from the rib cage's inner surface: an egg, broad at the back, narrow at the neck."""
    taper = np.interp(at.z, [-90, -50, 0, 60], [0.66, 0.85, 0.97, 1.0]).astype(np.float32)
    y = (at.y + 5) / 90
    x = at.x / (126 * taper * (1 + 0.10 * y - 0.06 * y * y))
    square = x * x + y * y
    # A fourth-power term flattens the sides: between an ellipse and a rounded box.
    radial = np.sqrt(np.sqrt(square * square - 0.45 * (x * y) ** 2))
    return (1 - radial) * 94


def body(at: Space, fat: float) -> FloatArray:
    """Measure from the skin, which is broader at the shoulders and has a groove along the spine."""
    shoulders = np.interp(at.z, [-80, -30, 30], [20, 9, 0]).astype(np.float32)
    x = at.x / (150 + 0.9 * fat + shoulders)
    y = (at.y - 3) / (110 + 0.9 * fat)
    square = x * x + y * y
    radial = np.sqrt(np.sqrt(square * square - 0.55 * (x * y) ** 2))
    groove = 4.5 * np.exp(-((at.x / 16) ** 2))
    distance: FloatArray = (1 - radial) * 112 - groove
    return distance


def muscle(at: Space, cavity_distance: FloatArray, scale: float) -> FloatArray:
    """Measure from the muscles: pectorals in front, serratus and latissimus, back muscles."""
    angle = np.arctan2(np.abs(at.x), at.y)  # 0 at the spine, pi at the sternum
    shoulders = np.interp(at.z, [-70, 40], [1.5, 0.8]).astype(np.float32)
    thickness = (
        13
        + 17 * np.exp(-(((angle - 0.42) / 0.26) ** 2))
        + 9 * shoulders * np.exp(-(((angle - 1.35) / 0.40) ** 2))
        + 10 * shoulders * np.exp(-(((angle - 2.45) / 0.34) ** 2))
    )
    return (cavity_distance + scale * thickness).astype(np.float32)


def heart(habitus: Habitus) -> tuple[Ellipsoid, ...]:
    """Shape the ventricles, turned to the left, and the right atrium."""
    s, top = habitus.heart, habitus.heart_top
    return (
        Ellipsoid((27, -34, top + 54 * s), (66 * s, 41 * s, 58 * s), degrees=30),
        Ellipsoid((-18, -18, top + 45 * s), (33 * s, 40 * s, 48 * s)),
        Ellipsoid((8, 8, top + 26 * s), (36 * s, 20 * s, 30 * s)),
    )


def great_vessels(habitus: Habitus) -> tuple[Tube, ...]:
    """Lay out aorta, vena cava, pulmonary arteries and veins, oesophagus."""
    t = habitus.heart_top
    return (
        Tube((-14, -28, -34), (-6, -22, t + 20), (15, 16)),  # ascending aorta
        Tube((-14, -28, -36), (20, 32, -32), (13, 13)),  # arch
        Tube((20, 32, -34), (24, 36, 140), (13, 11)),  # descending aorta
        Tube((-30, -22, -120), (-31, -16, t + 15), (9, 10)),  # superior vena cava
        Tube((16, -36, t + 10), (14, -20, 0), (15, 14)),  # pulmonary trunk
        Tube((14, -16, 2), (-46, 4, 10), (11, 8)),  # right pulmonary artery
        Tube((18, -16, -2), (48, 12, 2), (12, 8)),  # left pulmonary artery
        Tube((-46, 4, 10), (-52, 14, 50), (8.5, 4)),  # right interlobar artery
        Tube((46, 12, 2), (50, 22, 45), (8, 4)),  # left interlobar artery
        Tube((-20, 2, t + 18), (-56, -4, t + 12), (8, 4)),  # right pulmonary vein
        Tube((26, 4, t + 12), (60, 0, t + 4), (8, 4)),  # left pulmonary vein
        Tube((8, 26, -120), (6, 24, 140), (6, 6)),  # oesophagus
        Tube((-12, -40, -120), (-20, -32, -45), (9, 9)),  # brachiocephalic vein
    )


def airways() -> tuple[Tube, ...]:
    """Lay out the air in trachea and main bronchi."""
    return (
        Tube((-2, 8, -120), (0, 10, -2), (8.5, 8.5)),
        Tube((-1, 10, -4), (-40, 12, 18), (7, 5.5)),
        Tube((1, 10, -4), (46, 18, 22), (6.5, 5)),
        Tube((-40, 12, 18), (-46, 22, 52), (5, 3)),
        Tube((46, 18, 22), (50, 30, 52), (4.5, 3)),
    )


def domes(habitus: Habitus) -> tuple[Ellipsoid, ...]:
    """Shape the organs under the right and the left diaphragm."""
    return (
        Ellipsoid((-62, -4, habitus.dome + 82), (64, 72, 82)),
        Ellipsoid((70, -14, habitus.dome + 92), (54, 62, 78)),
    )


def mediastinum(at: Space, habitus: Habitus) -> FloatArray:
    """Unite all between the lungs, with the spine, the hila and the domes of the diaphragm."""
    parts: list[Ellipsoid | Tube] = [
        Ellipsoid((0, 62, 0), (25, 42, COLUMN)),
        Ellipsoid((-1, -8, 0), (31, 54, COLUMN)),
        Ellipsoid((3, -90, 0), (11, 34, COLUMN)),
        *domes(habitus),
        *heart(habitus),
        *great_vessels(habitus)[:11],
    ]
    return functools.reduce(union, (part.distance(at) for part in parts))


def lungs(at: Space, habitus: Habitus) -> FloatArray:
    """Measure from the surface of both lungs: the rib cage without the mediastinum."""
    return np.minimum(cavity(at), -mediastinum(at, habitus) - 1)
