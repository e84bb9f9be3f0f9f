"""How a volume of RAD-ChestCT becomes what a net sees, in training and in prediction."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.rad_chest.rescale import centred, rescale, thicker
from datamodules.rad_chest.volume_file import Volume, read_volume
from lightning_fl.data.scans import Preprocessing, Scan, ScanSource
from lightning_fl.errors import ConfigError, DataError

SMALLEST = 8
"""Side of a cube below which nothing of a chest is left."""


@dataclass(frozen=True)
class RadPreprocessing(Preprocessing):
    """Scales a volume to a cube, simulates thick slices and applies a window.

    First comes `rescale`, then the mean of neighbouring slices in HU, as a scanner with thicker
    slices measures it. The window brings that to [0, 1]. Zeros above and below give the cube back.
    They look like the lower end of the window, which is air if that end is at about -1000 HU.

    Attributes:
        size: side of the cube, in voxels.
        level: centre of the window in HU.
        width: of the window in HU.
        thickness: how many slices are averaged, 1 for none.

    Raises:
        ConfigError: a value is out of its range.
    """

    size: int
    level: float
    width: float
    thickness: int

    def __post_init__(self) -> None:
        if self.size < SMALLEST:
            raise ConfigError(f"Expected `size` to be at least {SMALLEST}, but got {self.size}.")
        if not self.width > 0:
            raise ConfigError(f"Expected `width` to be positive, but got {self.width}.")
        if not 1 <= self.thickness <= self.size:
            raise ConfigError(
                f"Expected `thickness` to be between 1 and {self.size}, the slices of a cube, but "
                f"got {self.thickness}."
            )

    def find(self, source: Path) -> tuple[Path, ...]:
        """Find a .npz file, or all of them in a folder, by name."""
        if source.is_file() and source.suffix == ".npz":
            return (source,)
        files = tuple(sorted(source.glob("*.npz"))) if source.is_dir() else ()
        if not files:
            raise DataError(f"{source} is no .npz file, nor a folder that holds one.")
        return files

    def read(self, path: ScanSource) -> "RadScan":
        """Read one volume, as a sample of training is read."""
        [path] = (path,) if isinstance(path, Path) else path
        return RadScan(path.stem, self.image(self.cube(path)))

    def cube(self, path: Path) -> Volume:
        """Scale HU of a file's volume to (size, size, size); the slow part."""
        return rescale(read_volume(path), self.size)

    def image(self, cube: Volume) -> Tensor:
        """Return what a net sees of a cube, float32 (1, size, size, size) in [0, 1]."""
        slices = thicker(torch.from_numpy(cube.astype(np.float32)), self.thickness)
        lower = self.level - self.width / 2
        windowed = ((slices - lower) / self.width).clamp(0, 1)
        return centred(windowed, self.size)[None]


class RadScan(Scan):
    """One volume, which a net sees at once.

    Args:
        name: of its file, without suffix.
        image: (1, size, size, size).
    """

    def __init__(self, name: str, image: Tensor) -> None:
        self.name = name
        self.image = image

    def images(self) -> Dataset[Tensor]:
        """Return the volume alone."""
        return [self.image]  # type: ignore[return-value]  # a list is a dataset to torch
