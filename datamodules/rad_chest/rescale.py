"""From a volume of any shape to a cube, and from a cube to thicker slices."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.rad_chest.volume_file import Volume

SLAB = 16
"""Slices that are scaled at a time: 16 of 512 x 512 take 17 MB in float32."""


def rescale(volume: Volume, size: int) -> Volume:
    """Scale HU (slices, height, width) to (size, size, size), rounded.

    Each axis is scaled by itself, linearly and antialiased.
    """
    slabs = (volume[start : start + SLAB] for start in range(0, len(volume), SLAB))
    planes = [_scale(torch.from_numpy(s.astype(np.float32)), (size, size)) for s in slabs]
    columns = torch.cat(planes).reshape(1, len(volume), size * size)
    cube = _scale(columns, (size, size * size)).reshape(size, size, size)
    rounded: Volume = cube.round().to(torch.int16).numpy()
    return rounded


def thicker(cube: Tensor, thickness: int) -> Tensor:
    """Make (S // k, H, W) of (S, H, W): slices k times as thick, the means of k neighbours.

    Slices that are left over at the two ends belong to none.
    """
    count = len(cube) // thickness
    start = (len(cube) - count * thickness) // 2
    kept = cube[start : start + count * thickness]
    return kept.reshape(count, thickness, *cube.shape[1:]).mean(dim=1)


def centred(slices: Tensor, size: int) -> Tensor:
    """Pad with zeros along the first axis to `size`, half of them (rounded down) in front."""
    front = (size - len(slices)) // 2
    return F.pad(slices, (0, 0, 0, 0, front, size - len(slices) - front))


def _scale(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Scale (N, H, W); where an axis keeps its length, its values stay as they are."""
    return F.interpolate(planes[None], shape, mode="bilinear", antialias=True)[0]
