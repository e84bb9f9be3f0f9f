"""Pulmonary arteries and bronchi, grown into the lungs and drawn by their share of each voxel."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.phantoms.anatomy import Habitus, lungs
from datamodules.phantoms.geometry import FIELD_OF_VIEW, FloatArray, Space

TWIGS = 1024
"""Ends of each tree, a power of two."""

BRONCHI = 3
"""Generations of arteries that an airway accompanies visibly."""

SLAB = 3.0
"""Thickness in mm of the layer that an ideal image shows."""


class Branches(NamedTuple):
    """Points along all branches of a tree.

    Attributes:
        points: (n, 3) positions in mm.
        radius: (n,) radius of the vessel there, in mm.
        step: (n,) length of vessel that the point stands for, in mm.
        generation: (n,) number of branchings above it.
    """

    points: FloatArray
    radius: FloatArray
    step: FloatArray
    generation: npt.NDArray[np.int64]


def grow(rng: np.random.Generator, habitus: Habitus) -> tuple[Branches, Branches]:
    """Grow arteries and veins into both lungs of a patient."""
    low, high = np.array([-130, -100, -80]), np.array([130, 100, 120])
    points = rng.uniform(low, high, (20 * TWIGS, 3)).astype(np.float32)
    lung = lungs(Space(*points.T), habitus) > 2
    arteries, veins = [], []
    for side in (-1, 1):
        inside = points[lung & (points[:, 0] * side > 0)]
        targets = np.resize(inside, (2 * TWIGS, 3))
        arteries.append(grow_tree(rng, (side * 46, 10, 8), targets[:TWIGS], trunk=4.6))
        veins.append(grow_tree(rng, (side * 42, -6, 22), targets[TWIGS:], trunk=4.2))
    return _join(arteries), _join(veins)


def stretch(branches: Branches, width: float, depth: float) -> Branches:
    """Take branches from the standard chest to a patient's width and depth."""
    scale = np.array([width, depth, 1], dtype=np.float32)
    return branches._replace(points=branches.points * scale)


def bronchi(branches: Branches) -> Branches:
    """Place the airways that run beside the first generations of the arteries."""
    main = branches.generation < BRONCHI
    points, radius = branches.points[main].copy(), branches.radius[main]
    points[:, 0] -= np.sign(points[:, 0]) * 1.6 * radius
    return Branches(points, radius, branches.step[main], branches.generation[main])


def grow_tree(
    rng: np.random.Generator, hilum: tuple[float, float, float], targets: FloatArray, trunk: float
) -> Branches:
    """Grow a tree from the hilum that supplies every target.

    Each branch grows part of the way to the centroid of its targets. Each of its two children gets
    one half of them (Tawhai et al. 2000). Radii follow Murray's law.

    Args:
        rng: bends the branches and varies their order.
        hilum: where the tree begins.
        targets: (2**n, 3) points of the lung to supply.
        trunk: radius of the first branch in mm.
    """
    groups, root = targets[None], np.array([hilum], dtype=np.float32)
    parts, generations = [], len(targets).bit_length() - 1
    for generation in range(generations + 1):
        centroid = groups.mean(axis=1)
        share = 0.42 if generation < generations else 1.0
        tip = root + share * (centroid - root)
        radius = trunk * 2 ** (-generation / 4.0)
        parts.append(_sample(rng, root, tip, radius, generation))
        if generation < generations:
            groups, root = _halve(rng, groups), np.repeat(tip, 2, axis=0)
    return _join(parts)


def splat(branches: Branches, levels: FloatArray, size: int, radius: float = 1.0) -> FloatArray:
    """Return the share of each voxel that branches fill, (levels, size, size) within [0, 1].

    Thin vessels are far below a pixel, so they are drawn by their volume, not by their outline.

    Args:
        branches: what to draw.
        levels: z of each image.
        size: image width in pixels.
        radius: factor on the branches' radii.
    """
    pixel = FIELD_OF_VIEW / size
    r = branches.radius * radius
    volume = np.pi * r * r * branches.step / (pixel * pixel * SLAB)
    total = np.zeros((len(levels), size, size), dtype=np.float32)
    for low, high in ((0, 1.0), (1.0, 2.2), (2.2, np.inf)):
        chosen = (r > low) & (r <= high)
        if chosen.any():
            dots = _dots(branches.points[chosen], volume[chosen], levels, size)
            blur = max(0.45, float(r[chosen].mean()) * 0.55 / pixel)
            total += ndimage.gaussian_filter(dots, (0, blur, blur), truncate=3)
    return np.minimum(total, 1)


def _join(parts: list[Branches]) -> Branches:
    return Branches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _dots(points: FloatArray, volume: FloatArray, levels: FloatArray, size: int) -> FloatArray:
    """Sum the volumes of the points that fall into each voxel."""
    pixel = FIELD_OF_VIEW / size
    column, row = (np.floor(points[:, i] / pixel + size / 2).astype(np.int64) for i in (0, 1))
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    plane, point = np.nonzero(
        (np.abs(points[None, :, 2] - levels[:, None]) < SLAB / 2) & inside[None, :]
    )
    voxel = (plane * size + row[point]) * size + column[point]
    sums = np.bincount(voxel, weights=volume[point], minlength=len(levels) * size * size)
    return sums.reshape(len(levels), size, size).astype(np.float32)


def _halve(rng: np.random.Generator, groups: FloatArray) -> FloatArray:
    """Cut every group of targets in two, roughly across its longest extent."""
    extent = np.ptp(groups, axis=1)
    axis = np.argmax(extent * rng.uniform(0.4, 1.0, extent.shape), axis=1)
    along = np.take_along_axis(groups, axis[:, None, None], axis=2)[:, :, 0]
    order = np.argsort(along, axis=1)
    ordered = np.take_along_axis(groups, order[:, :, None], axis=1)
    return ordered.reshape(2 * len(groups), -1, 3)


def _sample(
    rng: np.random.Generator, start: FloatArray, end: FloatArray, radius: float, generation: int
) -> Branches:
    """Place points along slightly bent branches, dense enough for one in every slab."""
    length = np.linalg.norm(end - start, axis=1)
    bend = rng.standard_normal(start.shape, dtype=np.float32) * 0.12 * length[:, None]
    count = int(np.clip(length.max() / 1.2, 4, 40))
    t = ((np.arange(count, dtype=np.float32) + 0.5) / count)[None, :, None]
    curve = start[:, None] * (1 - t) + end[:, None] * t + bend[:, None] * (4 * t * (1 - t))
    points = curve.reshape(-1, 3).astype(np.float32)
    taper = np.tile(radius * (1 - 0.2 * t[0, :, 0]), len(start))
    step = np.repeat(length / count, count)
    which = np.full(len(points), generation)
    return Branches(points, taper.astype(np.float32), step.astype(np.float32), which)
