"""Images with their truth as samples, read when they are asked for and never kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.images.image_files import read_channels, read_mask, size_of
from datamodules.images.preprocessing import ImagePreprocessing
from datamodules.index.row import Row
from datamodules.targets import LabelTarget, MaskTarget, Target
from lightning_fl.data.augmentation import augmented, augmented_labelled
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class ImageReader:
    """Read a row as a sample whose image is not normalised yet.

    Attributes:
        target: makes the truth.
        shape: channels and size of the images.
        reference: the row whose channels all others must have; None converts them instead.
    """

    target: Target
    shape: ImagePreprocessing
    reference: Row | None

    def __call__(self, row: Row) -> dict[str, Tensor]:
        """Read one row; raise a DataError for a file that cannot be used or does not fit."""
        image = read_channels(row.images)
        if isinstance(self.target, LabelTarget):
            return {"image": self._prepared(image, row), "label": self.target(row)}
        mask = self.mask(row)
        if image.shape[1:] != mask.shape[-2:]:
            raise DataError(
                f"Image {row.images[0]} has {size_of(image)} pixels, but its mask {row.mask} "
                f"{size_of(mask)}; both need the same height and width."
            )
        return {"image": self._prepared(image, row), "mask": self._resized(mask)}

    def image(self, row: Row) -> Tensor:
        """Read a row's image alone, float32 (channels, H, W)."""
        return self._prepared(read_channels(row.images), row)

    def mask(self, row: Row) -> Tensor:
        """Read a row's mask as it is in the file, int64 (H, W) or, with regions, (R, H, W)."""
        if row.mask is None or not isinstance(self.target, MaskTarget):
            raise ConfigError(
                f"{row.place} has no mask; set `target` to Labels to classify, or add masks."
            )
        return torch.from_numpy(self.target(read_mask(row.mask), row.mask))

    def _prepared(self, image: Tensor, row: Row) -> Tensor:
        """Give an image the channels and the size that are asked for."""
        if self.reference is not None and len(image) != self.shape.channels:
            raise DataError(
                f"{row.images[0]} has {len(image)} channel(s), but {self.reference.images[0]} has "
                f"{self.shape.channels}; set `channels` to 1 or 3 to convert all images."
            )
        return self.shape.prepared(image, row.images[0])

    def _resized(self, mask: Tensor) -> Tensor:
        """Give a mask the size that is asked for; each pixel is one of the mask's pixels."""
        size = self.shape.size
        if size is None or mask.shape[-2:] == size:
            return mask
        channels = mask[None] if mask.ndim == 3 else mask[None, None]
        resized = F.interpolate(channels.double(), size, mode="nearest-exact").long()
        return resized[0] if mask.ndim == 3 else resized[0, 0]


class ImageSamples(Dataset[Any]):
    """Hold samples of some rows, in their order.

    Augmentation comes before normalisation, because transforms of colour expect images in [0, 1].

    Args:
        rows: of the samples.
        read: turns a row into a sample.
        transform: augmentation of a sample, if any.
        normalise: acts on each image last.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        read: ImageReader,
        transform: Callable[..., Any] | None,
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        self.rows = rows
        self.read = read
        self.transform = transform
        self.normalise = normalise

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample: Any = self.read(self.rows[index])
        if self.transform is not None and "mask" in sample:
            sample = augmented(sample, self.transform)
        elif self.transform is not None:
            sample = augmented_labelled(sample, self.transform)
        return {**sample, "image": self.normalise(sample["image"])}


class ResizedImages(ImageSamples):
    """Hold samples that are scored on the pixels of their files."""

    def original(self, index: int) -> Tensor:
        """Return a sample's mask on the pixels of its file, int64 (H, W) or (R, H, W)."""
        return self.read.mask(self.rows[index])
