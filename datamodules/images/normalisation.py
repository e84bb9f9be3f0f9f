"""Zero mean and unit standard deviation, by image or by hospital, or percentiles."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SD = 1e-6
"""A flat image becomes zeros; dividing by its standard deviation would blow up rounding errors."""


@dataclass(frozen=True)
class Standardise:
    """Subtracts a mean and divides by a standard deviation, both of shape (channels, 1, 1)."""

    mean: Tensor
    sd: Tensor

    def __call__(self, image: Tensor) -> Tensor:
        """Normalise an image (channels, H, W)."""
        return (image - self.mean) / self.sd.clamp(min=SMALLEST_SD)


def standardise_image(image: Tensor) -> Tensor:
    """Give each channel of an image (channels, H, W) zero mean and unit standard deviation."""
    sd, mean = torch.std_mean(image, dim=(1, 2), correction=0, keepdim=True)
    return Standardise(mean, sd)(image)


def scale_percentiles(image: Tensor) -> Tensor:
    """Scale each channel of an image (channels, H, W) from its percentiles 0.5 and 99.5 to 0 to 1.

    Values beyond are clipped, so that a few bright pixels do not darken all others.
    """
    ends = torch.tensor([0.005, 0.995], dtype=image.dtype)
    low, high = torch.quantile(image.flatten(1), ends, dim=1)[..., None, None]
    scaled: Tensor = (image - low) / (high - low).clamp(min=SMALLEST_SD)
    return scaled.clamp(0, 1)


def pooled_statistics(images: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all pixels of some images.

    Images are seen once, one at a time; the sums are in double precision.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1)
    for image in images:
        pixels = image.double()
        count += pixels[0].numel()
        total = total + pixels.sum(dim=(1, 2))
        squares = squares + pixels.square().sum(dim=(1, 2))
    if count == 0:
        raise ValueError("Expected at least one image, but got none.")
    mean = total / count
    sd = (squares / count - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.float().tolist()), tuple(sd.float().tolist())
