"""2-D images of any index, with masks or labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch.utils.data import Dataset

from datamodules.images.image_check import check_rows
from datamodules.images.image_files import read_channels
from datamodules.images.image_samples import (
    ImageReader,
    ImageSamples,
    ResizedImages,
)
from datamodules.images.normalisation import pooled_statistics
from datamodules.images.preprocessing import ImagePreprocessing
from datamodules.index import Index
from datamodules.indexed import IndexedDataModule
from datamodules.targets import ClassNumbers, MaskTarget, Target
from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError


class Images(IndexedDataModule):
    """Read 2-D images: pictures (PNG, TIFF, JPEG, BMP, GIF, PPM) and arrays (.npy, .npz).

    Pictures are grey or colour of 8 or 16 bits, or grey floats, and are turned as their EXIF
    orientation says.
    Files are listed once, when this is built; images are read when they are needed and not kept.

    Args:
        index: which images there are, e.g. `datamodules.Table`.
        target: what the net shall predict: ClassNumbers, MaskMap, Threshold or Regions of masks, or
            Labels. null is ClassNumbers, binary masks of 0 and one other number.
        normalise: "none" leaves values as they are, pictures in [0, 1]; "image" gives each channel
            of each image zero mean and unit standard deviation; "percentiles" scales each channel
            from its percentiles 0.5 and 99.5 to 0 and 1; "site" uses mean and standard deviation of
            those training patients of the hospital that a model sees. Where it sees none (a
            hospital of one or two patients in `unseen`), "image" takes its place.
        size: side, or height and width, in pixels that images (bilinear, antialiased) and masks
            (nearest pixel) are resized to; null leaves them, and then a hospital's images need one
            size.
        channels: 1 turns colour grey, 3 repeats grey images; null takes images as they are, and
            then all need the same number.
        **kwargs: of the base class.

    Raises:
        ConfigError: a setting cannot work.
        DataError: the index, or the first image, cannot be used.
    """

    def __init__(
        self,
        index: Index,
        *,
        target: Target | None = None,
        normalise: Literal["none", "image", "percentiles", "site"] = "image",
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(index, **kwargs)
        height_width = (size, size) if isinstance(size, int) else size
        if height_width is not None and min(height_width) < 1:
            raise ConfigError(f"Expected `size` to be at least 1 pixel, but got {size}.")
        if channels is not None and channels < 1:
            raise ConfigError(f"Expected `channels` to be at least 1, but got {channels}.")
        reference = None if channels else self.rows(self.site_names()[0])[0]
        count = channels or (len(read_channels(reference.images)) if reference else 1)
        target = target or ClassNumbers()
        names = getattr(target, "names", ()) or getattr(index, "classes", ())
        statistics = () if normalise != "site" else (0.0,) * count  # of no site yet
        shape = ImagePreprocessing(
            count, height_width, normalise, statistics, statistics, tuple(names)
        )
        self._read = ImageReader(target, shape, reference)
        self._prepared: dict[tuple[str, ...], ImagePreprocessing] = {}  # shared by a site's copies

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return the images of some patients, in the order of the index."""
        rows, transform = self.rows(site, patients), self.augment if augment else None
        resized = isinstance(self._read.target, MaskTarget) and self._read.shape.size is not None
        kind = ResizedImages if resized else ImageSamples
        return kind(rows, self._read, transform, self.preprocessing(site).normalised)

    def preprocessing(self, site: str) -> ImagePreprocessing:
        """Return how images of a hospital become what its model sees."""
        shape = self._read.shape
        if shape.normalise != "site":
            return shape
        seen = self.seen(site)
        if not seen:
            return replace(shape, normalise="image", mean=(), sd=())
        key = (site, *seen)
        if key not in self._prepared:
            mean, sd = pooled_statistics(self._read.image(row) for row in self.rows(site, seen))
            self._prepared[key] = replace(shape, mean=mean, sd=sd)
        return self._prepared[key]

    def check(self) -> None:
        """Read every file of this hospital once (of all, if bound to none).

        Raises:
            DataError: the first file that training would stumble over, or too few patients.
        """
        for site in self.sites_to_check():
            self.split(site)
            check_rows(site, self.rows(site), self._read)
