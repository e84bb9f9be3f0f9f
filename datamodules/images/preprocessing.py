"""How image files become what a net sees, as settings that a run stores for later prediction."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from datamodules.images.image_files import read_channels
from datamodules.images.normalisation import (
    Standardise,
    scale_percentiles,
    standardise_image,
)
from datamodules.index.files import ARRAYS, PICTURES
from lightning_fl.data.scans import Picture, Preprocessing, ScanSource
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class ImagePreprocessing(Preprocessing):
    """Give images the channels, the size and the normalisation of a hospital.

    Attributes:
        channels: that the net sees: 1 turns colour into grey, 3 repeats grey.
        size: height and width in pixels; None leaves each image its own.
        normalise: "none", "image", "percentiles" or "site", see `Images`.
        mean: of each channel, for "site".
        sd: standard deviation of each channel, for "site".
        names: of the classes or labels, in their order; () for numbers.

    Raises:
        ConfigError: a setting is unknown, or "site" lacks its statistics.
    """

    channels: int
    size: tuple[int, int] | None = None
    normalise: str = "image"
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.normalise not in ("none", "image", "percentiles", "site"):
            raise ConfigError(
                "Expected `normalise` to be none, image, percentiles or site, but got "
                f"{self.normalise!r}."
            )
        numbers = self.channels if self.normalise == "site" else 0
        if (len(self.mean), len(self.sd)) != (numbers, numbers):
            raise ConfigError(
                f"Expected `mean` and `sd` to be {numbers} numbers each with `normalise` "
                f"{self.normalise!r}, but got {self.mean} and {self.sd}."
            )

    def find(self, source: Path) -> tuple[Path, ...]:
        """Find an image file, or all of a folder, by name; masks that were predicted are left out.

        Raises:
            DataError: there is none.
        """
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        images = tuple(
            path
            for path in files
            if path.is_file()
            and path.suffix.lower() in (*PICTURES, *ARRAYS)
            and not path.name.startswith(".")
            and ".mask." not in path.name
        )
        if not images:
            raise DataError(
                f"{source} is no image file, nor a folder that holds one; expected "
                f"{', '.join((*PICTURES, *ARRAYS))}."
            )
        return images

    def read(self, path: ScanSource) -> Picture:
        """Read one image, of one file or of one for each channel.

        Raises:
            DataError: a file cannot be used; names it.
        """
        paths = (path,) if isinstance(path, Path) else path
        image = read_channels(paths)
        height, width = image.shape[1:]
        picture = self.normalised(self.prepared(image, paths[0]))
        return Picture(paths[0].stem, picture, (height, width))

    def prepared(self, image: Tensor, path: Path) -> Tensor:
        """Give an image (C, H, W) in [0, 1] the channels and the size that nets see.

        Raises:
            DataError: its channels can become no others.
        """
        if len(image) != self.channels:
            if {len(image), self.channels} != {1, 3}:
                raise DataError(
                    f"{path} has {len(image)} channel(s), which cannot become `channels`: "
                    f"{self.channels}; only colour becomes grey, and grey three channels."
                )
            image = rgb_to_grayscale(image) if self.channels == 1 else image.expand(3, -1, -1)
        if self.size is None or image.shape[1:] == self.size:
            return image
        return F.interpolate(image[None], self.size, mode="bilinear", antialias=True)[0]

    def normalised(self, image: Tensor) -> Tensor:
        """Normalise an image that has been prepared."""
        if self.normalise == "none":
            return image
        if self.normalise == "image":
            return standardise_image(image)
        if self.normalise == "percentiles":
            return scale_percentiles(image)
        mean, sd = (torch.tensor(values)[:, None, None] for values in (self.mean, self.sd))
        return Standardise(mean, sd)(image)

    def class_names(self) -> tuple[str, ...]:
        """Return `names`."""
        return self.names
