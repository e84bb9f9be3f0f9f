"""Labelled volumes as samples, read from the cache when asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.index.row import Row
from datamodules.normalisation.oddities import warn_of
from datamodules.rad_chest.preprocessing import HU, RadPreprocessing, read_volume
from datamodules.volume_cache import cached, stamps
from lightning_fl.data.module import LabelledSample
from lightning_fl.errors import ConfigError

VERSION = 1
"""Raise it with every change that moves a voxel: older files are then no longer found."""


def cached_cube(path: Path, prepare: RadPreprocessing, folder: Path) -> HU:
    """Map a volume's cube of HU from disk; scale it first if it is not there.

    It depends on the file and on the cube's size alone, so another window or thickness reuses it.
    """
    key = ("rad_chest", VERSION, stamps(path), prepare.size)
    return cached(folder, key, lambda: prepare.cube(path), (prepare.size,) * 3, np.int16)


def warn_of_volume(path: Path, folder: Path) -> None:
    """Warn of numbers that are no HU, also where the volume came from the cache."""
    warn_of(path, folder, ("rad_chest", VERSION, stamps(path), "oddities"), read_volume)


class VolumeSamples(Dataset[LabelledSample]):
    """Samples of some volumes, in their order.

    Args:
        rows: of the volumes.
        prepare: of their hospital.
        folder: the cache.
        transform: augmentation of an image (1, size, size, size), or None.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        prepare: RadPreprocessing,
        folder: Path,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.rows = rows
        self.prepare = prepare
        self.folder = folder
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LabelledSample:
        row = self.rows[index]
        image = self.prepare.image(cached_cube(row.images[0], self.prepare, self.folder))
        if self.transform is not None:
            image = _augmented(image, self.transform)
        return {"image": image, "label": torch.tensor(int(row.labels["label"]))}


def _augmented(image: Tensor, transform: Callable[[Any], Any]) -> Tensor:
    result = transform(image)
    if not isinstance(result, Tensor) or result.shape != image.shape:
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ConfigError(
            f"Expected `augment` to return a volume of shape {tuple(image.shape)}, but {transform} "
            f"returned {kind}. It is called with a volume alone, its last two axes being an "
            "axial slice; RandomHorizontalFlip of torchvision.transforms.v2 is one that fits."
        )
    return result.as_subclass(Tensor).to(torch.float32)
