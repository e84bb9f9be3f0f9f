import numpy as np
import pytest

from datamodules.phantoms.geometry import FIELD_OF_VIEW
from datamodules.phantoms.vessels import SLAB, Branches, grow_tree, splat


def targets() -> np.ndarray:
    return np.random.default_rng(1).uniform(20, 100, (64, 3)).astype(np.float32)


def test_tree_starts_at_the_hilum_ends_at_its_targets_and_tapers() -> None:
    tree = grow_tree(np.random.default_rng(0), (0, 0, 0), targets(), trunk=4.0)
    assert np.linalg.norm(tree.points[0]) < 3
    ends = tree.points[tree.generation == 6]
    gaps = np.linalg.norm(targets()[:, None] - ends[None], axis=2).min(axis=1)
    assert gaps.max() < 6
    widths = [tree.radius[tree.generation == g].max() for g in range(7)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] <= 4.0


def test_thin_vessel_adds_its_volume() -> None:
    z = (np.arange(30, dtype=np.float32) - 14.5) / 10
    points = np.stack([np.full(30, 5.0), np.full(30, -7.0), z], axis=1).astype(np.float32)
    ones = np.ones(30, dtype=np.float32)
    line = Branches(points, 0.8 * ones, 0.1 * ones, np.zeros(30, dtype=np.int64))
    share = splat(line, np.zeros(1, dtype=np.float32), size=64)
    volume = share.sum() * (FIELD_OF_VIEW / 64) ** 2 * SLAB
    assert volume == pytest.approx(np.pi * 0.8**2 * 3.0, rel=0.02)


def test_vessels_outside_of_the_image_are_left_out() -> None:
    far = np.array([[500, 0, 0], [0, 0, 50]], dtype=np.float32)
    ones = np.ones(2, dtype=np.float32)
    tree = Branches(far, ones, ones, np.zeros(2, dtype=np.int64))
    assert not splat(tree, np.zeros(1, dtype=np.float32), size=32).any()
