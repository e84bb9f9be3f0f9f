"""Pairs of an image and its mask as samples, read when they are asked for and never kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import rgb_to_grayscale

from datamodules.images.folder_index import ImagePair
from datamodules.images.image_files import class_numbers, read_image, read_mask
from lightning_fl.data.augmentation import augmented
from lightning_fl.data.module import Sample
from lightning_fl.errors import DataError


@dataclass(frozen=True)
class PairReader:
    """Reads a pair as a sample whose image lies in [0, 1].

    Attributes:
        channels: channels of the images, 1 or 3.
        reference: the image whose channels all others must have; None converts them instead.
        size: height and width to resize to; None leaves them.
        classes: see `ImageFolder`.
    """

    channels: int
    reference: Path | None
    size: tuple[int, int] | None
    classes: int

    def __call__(self, pair: ImagePair) -> Sample:
        """Read one pair; raise a DataError for a file that cannot be used or does not fit."""
        image = read_image(pair.image)
        mask = class_numbers(read_mask(pair.mask), self.classes, pair.mask)
        if image.shape[1:] != mask.shape:
            raise DataError(
                f"Image {pair.image} has {_size(image)} pixels, but its mask {pair.mask} "
                f"{_size(mask)}; both need the same height and width."
            )
        return {"image": self._prepared(image, pair.image), "mask": self._resized(mask)}

    def image(self, pair: ImagePair) -> Tensor:
        """Read a pair's image alone, float32 (channels, H, W)."""
        return self._prepared(read_image(pair.image), pair.image)

    def _prepared(self, image: Tensor, path: Path) -> Tensor:
        """Give an image the channels and the size that are asked for."""
        if len(image) != self.channels:
            if self.reference is not None:
                raise DataError(
                    f"{path} has {len(image)} channel(s), but {self.reference} has "
                    f"{self.channels}; set `channels` to 1 or 3 to convert all images."
                )
            image = rgb_to_grayscale(image) if self.channels == 1 else image.expand(3, -1, -1)
        if self.size is None:
            return image
        return F.interpolate(image[None], self.size, mode="bilinear", antialias=True)[0]

    def _resized(self, mask: Tensor) -> Tensor:
        """Give a mask the size that is asked for; each pixel is one of the mask's pixels."""
        if self.size is None:
            return mask
        resized = F.interpolate(mask[None, None].double(), self.size, mode="nearest-exact")
        return resized[0, 0].long()


class ImagePairs(Dataset[Sample]):
    """Samples of some pairs, in their order.

    Augmentation comes before normalisation, because transforms of colour expect images in [0, 1].

    Args:
        pairs: files of the samples.
        read: turns a pair into a sample.
        transform: augmentation of image and mask, if any.
        normalise: acts on each image last.
    """

    def __init__(
        self,
        pairs: Sequence[ImagePair],
        read: PairReader,
        transform: Callable[..., Any] | None,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        self.pairs = pairs
        self.read = read
        self.transform = transform
        self.normalise = normalise

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        sample = self.read(self.pairs[index])
        if self.transform is not None:
            sample = augmented(sample, self.transform)
        return {"image": self.normalise(sample["image"]), "mask": sample["mask"]}

    def original(self, index: int) -> Tensor:
        """Return a sample's mask on the pixels of its file, int64 (H, W)."""
        pair = self.pairs[index]
        return class_numbers(read_mask(pair.mask), self.read.classes, pair.mask)


def _size(image: Tensor) -> str:
    """Return height and width, e.g. "64 x 48"."""
    return " x ".join(str(n) for n in image.shape[-2:])
