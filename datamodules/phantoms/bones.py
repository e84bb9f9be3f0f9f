"""Ribs, spine, sternum and shoulder blades: share of bone and its Hounsfield units."""

import numpy as np

from datamodules.phantoms.geometry import Ellipsoid, FloatArray, Space, Tube, coverage, smoothstep

RIB_SPACING = 25.0
VERTEBRA_HEIGHT = 26.0


def ribs(at: Space, cavity_distance: FloatArray, phase: float) -> FloatArray:
    """Measure the signed distance of all ribs at once.

    Ribs run down and forward, so an axial image cuts several of them, each as an oval. Unrolled
    along the chest wall they are parallel bands: a periodic function of height minus slope.
    """
    angle = np.arctan2(np.abs(at.x), at.y)  # 0 at the spine, pi at the sternum
    descent = 150 * smoothstep(angle, 0.15, 3.1)
    # left and right ribs are never quite level
    side = np.where(at.x > 0, np.float32(2), np.float32(0))
    turns = (at.z - descent + side) / RIB_SPACING + phase
    height = np.abs(turns - np.round(turns)) * RIB_SPACING
    depth = np.abs(cavity_distance + 6.5)
    oval = 1 - np.sqrt((depth / 4.4) ** 2 + (height / 5.8) ** 2)
    reach = np.minimum(angle - 0.26, 2.78 - angle) * 90
    distance: FloatArray = np.minimum(oval * 4.4, reach)
    return distance


def spine(at: Space) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Measure the signed distances of vertebrae, discs and spinal canal."""
    turns = at.z / VERTEBRA_HEIGHT
    from_disc = np.abs(turns - np.round(turns)) * VERTEBRA_HEIGHT
    column = Ellipsoid((0, 50, 0), (17, 14.5, np.inf)).distance(at)
    canal = Ellipsoid((0, 71, 0), (9, 7.5, np.inf)).distance(at)
    arch = np.minimum(canal + 6, 4 + from_disc * 0.3 - np.abs(canal + 3))
    process = Ellipsoid((0, 88, 0), (3.8, 15, np.inf)).distance(at)
    flat = Space(np.abs(at.x), at.y, np.zeros_like(at.z))
    transverse = Tube((12, 70, 0), (34, 80, 0), (5.5, 4)).distance(flat)
    transverse = np.minimum(transverse, from_disc - 6)
    body = np.minimum(column, from_disc - 3)
    vertebra = np.maximum.reduce([body, arch, process, transverse])
    return np.minimum(vertebra, -canal), column, canal


def sternum(at: Space) -> FloatArray:
    """Measure the signed distance of the breast bone, a flat plate that is wider at its top."""
    half = np.interp(at.z, [-60, -30, 60], [24, 16, 17]).astype(np.float32)
    plate: FloatArray = np.minimum(half - np.abs(at.x), 5 - np.abs(at.y + 101))
    distance: FloatArray = np.minimum(plate, 80 - at.z)
    return distance


def scapulae(at: Space) -> FloatArray:
    """Measure the signed distance of the shoulder blades: thin plates behind the upper ribs."""
    flat = Space(np.abs(at.x), at.y, np.zeros_like(at.z))
    blade = np.maximum(
        Tube((70, 99, 0), (106, 93, 0), (3.4, 2.0)).distance(flat),
        Tube((106, 93, 0), (134, 60, 0), (2.0, 4.8)).distance(flat),
    )
    return np.minimum(blade, 15 - at.z)


def bone_value(distance: FloatArray, cortex: float, marrow: float) -> FloatArray:
    """Return Hounsfield units inside a bone: a cortex of about 2 mm around marrow."""
    inside = coverage(distance - 2.2, 2.0)
    return cortex + inside * (marrow - cortex)
