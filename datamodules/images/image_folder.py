"""Images and masks in folders, one folder a hospital."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.images.folder_check import check_pairs
from datamodules.images.folder_index import ImagePair, index_folder
from datamodules.images.image_files import read_channels
from datamodules.images.image_pairs import ImagePairs, PairReader
from datamodules.images.normalisation import Standardise, pooled_statistics, standardise_image
from datamodules.images.preprocessing import ImagePreprocessing
from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.errors import ConfigError


class ImageFolder(FederatedDataModule):
    """Reads `root/<site>/images/<name>` and the mask `root/<site>/masks/<name>`.

    Files are PNG, TIFF (one page) or JPEG, 8- or 16-bit grey or 8-bit colour; a mask may have
    another suffix than its image. Folders are listed once, when this is built; images are read when
    they are needed and not kept.

    Args:
        root: folder of the hospitals' folders.
        patient: how to tell the patient of an image: "manifest" reads `root/manifest.csv` with the
            columns site, patient and file, which has to name every image once; a regular expression
            with one group searches the file name, e.g. "^(P[0-9]+)_"; "file" makes each image a
            patient of its own. All images of a patient go to the same part of the split.
        sites: hospitals to use, in this order; null is all sub folders, by name.
        channels: 1 turns all images grey, 3 repeats grey images; null takes them as they are, and
            then all need the same number.
        size: side, or height and width, in pixels that images (bilinear, antialiased) and masks
            (nearest pixel) are resized to; null leaves them, and then a hospital's images need one
            size.
        normalise: "none" leaves values in [0, 1]; "image" gives each channel of each image zero
            mean and unit standard deviation; "site" uses mean and standard deviation of those
            training patients of the hospital that a model sees. Where it sees none (a hospital of
            one or two patients in `unseen`), "image" takes its place.
        classes: 1 for binary masks of 0 and one other number, e.g. 255; otherwise the number of
            classes, background included, and masks hold 0 to classes - 1.
        **kwargs: of the base class.

    Raises:
        ConfigError: a setting cannot work.
        DataError: files are missing, or not named as they should be.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        patient: str = "manifest",
        sites: Sequence[str] | None = None,
        channels: Literal[1, 3] | None = None,
        size: int | tuple[int, int] | None = None,
        normalise: Literal["none", "image", "site"] = "image",
        classes: int = 1,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(**kwargs)
        if not 1 <= classes <= 256:
            raise ConfigError(f"Expected `classes` to be between 1 and 256, but got {classes}.")
        self.normalise = normalise
        self._index = index_folder(Path(root).expanduser(), sites, patient)
        self._read = self._reader(channels, size, classes)
        self._statistics: dict[tuple[str, ...], Standardise] = {}  # shared by copies for a site

    def site_names(self) -> tuple[str, ...]:
        """Return the sub folders, or `sites`."""
        return tuple(self._index)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return a hospital's patients, sorted."""
        return tuple(sorted({pair.patient for pair in self._index[site]}))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return the images of some patients, by file name."""
        pairs, transform = self._pairs(site, patients), self.augment if augment else None
        return ImagePairs(pairs, self._read, transform, self._normalisation(site))

    def preprocessing(self, site: str) -> ImagePreprocessing:
        """Return how images of a hospital become what its model sees."""
        normalise, read = self._normalisation(site), self._read
        if isinstance(normalise, Standardise):
            mean, sd = (tuple(each.flatten().tolist()) for each in (normalise.mean, normalise.sd))
            return ImagePreprocessing(read.channels, read.size, "site", mean, sd)
        # "image" takes the place of "site" where there is nothing to measure
        name = "none" if self.normalise == "none" else "image"
        return ImagePreprocessing(read.channels, read.size, name)

    def check(self) -> None:
        """Read every file of this hospital once (of all, if bound to none).

        Raises:
            DataError: the first file that training would stumble over, or too few patients.
        """
        for site in self.sites_to_check():
            self.split(site)
            check_pairs(self._index[site], self._read)

    def _reader(
        self, channels: int | None, size: int | tuple[int, int] | None, classes: int
    ) -> PairReader:
        """Return how this folder's files become samples."""
        height_width = (size, size) if isinstance(size, int) else size
        if height_width is not None and min(height_width) < 1:
            raise ConfigError(f"Expected `size` to be at least 1 pixel, but got {size}.")
        if channels is not None:
            return PairReader(channels, None, height_width, classes)
        reference = next(chain.from_iterable(self._index.values())).image
        return PairReader(read_channels(reference), reference, height_width, classes)

    def _pairs(self, site: str, patients: Sequence[str]) -> tuple[ImagePair, ...]:
        wanted = set(patients)
        return tuple(pair for pair in self._index[site] if pair.patient in wanted)

    def _normalisation(self, site: str) -> Callable[[Tensor], Tensor]:
        if self.normalise == "none":
            return torch.nn.Identity()
        seen = () if self.normalise == "image" else self.seen(site)
        if not seen:
            return standardise_image
        key = (site, *sorted(seen))
        if key not in self._statistics:
            self._statistics[key] = pooled_statistics(
                self._read.image(pair) for pair in self._pairs(site, seen)
            )
        return self._statistics[key]
