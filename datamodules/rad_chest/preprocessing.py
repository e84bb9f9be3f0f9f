"""How a volume of RAD-ChestCT becomes what a net sees, in training and in prediction."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.normalisation.hounsfield import limit
from datamodules.readers.arrays import read_array
from datamodules.volumes.axis import Axis
from datamodules.volumes.grid import Placement
from lightning_fl.data.scans import Preprocessing, Scan, ScanSource
from lightning_fl.errors import ConfigError, DataError

KEY = "ct"

HU = npt.NDArray[np.int16]
"""Hounsfield units (slices, height, width)."""

SMALLEST = 8
"""Side of a cube below which nothing of a chest is left."""


@dataclass(frozen=True)
class RadPreprocessing(Preprocessing):
    """Scales a volume to a cube, simulates thick slices and applies a window.

    First each axis is scaled by itself, linearly and antialiased. Then comes the mean of
    neighbouring slices in HU, as a scanner with thicker slices measures it; slices that are left
    over at the two ends belong to none. The window brings that to [0, 1]. Zeros above and below
    give the cube back. They look like the lower end of the window, which is air if that end is at
    about -1000 HU.

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

    def cube(self, path: Path) -> HU:
        """Scale HU of a file's volume to (size, size, size), rounded; the slow part."""
        planes = np.moveaxis(read_volume(path), 0, 2)  # slices last, as on a grid
        axes = (Axis(length, self.size, self.size) for length in planes.shape)
        return np.moveaxis(Placement(*axes).image(planes, np.int16, 0), 2, 0)

    def image(self, cube: HU) -> Tensor:
        """Return what a net sees of a cube, float32 (1, size, size, size) in [0, 1]."""
        count = self.size // self.thickness
        start = (self.size - count * self.thickness) // 2
        kept = torch.from_numpy(cube[start : start + count * self.thickness].astype(np.float32))
        slices = kept.reshape(count, self.thickness, *cube.shape[1:]).mean(dim=1)
        lower = self.level - self.width / 2
        windowed = ((slices - lower) / self.width).clamp(0, 1)
        front = (self.size - count) // 2
        return F.pad(windowed, (0, 0, 0, 0, front, self.size - count - front))[None]


def read_volume(path: Path) -> HU:
    """Read the array `ct` of a .npz file; values that no tissue has are clipped, with a warning.

    Raises:
        DataError: the file cannot be used.
    """
    array = read_array(path, (KEY,))
    if array.dtype != np.int16:
        raise DataError(
            f"{path}: `{KEY}` is {array.dtype}, but expected int16 with whole Hounsfield units. "
            "If it holds HU, store np.round(ct).astype(np.int16); if it was scaled, e.g. to "
            "[0, 1], take the original."
        )
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            f"{path}: `{KEY}` has the shape {array.shape}, but expected (slices, height, width)."
        )
    volume = array.astype(np.int16, copy=False)
    limit(volume, path)
    return volume


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
