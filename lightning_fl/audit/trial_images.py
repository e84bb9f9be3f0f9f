"""The images that an audit's trials attack, drawn from the training images of all hospitals."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.audit.attacks.image_scores import SSIM_WINDOW
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import ConfigError
from lightning_fl.seeds import derive_seed

REMEDY = "set `audit.trials` to 0; membership inference is for any task."
"""What helps where the trials cannot attack a task or its data."""


@dataclass(frozen=True)
class TrialImages:
    """The images that trials draw from, and among which identification chooses.

    Attributes:
        images: (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def sample(self, number: int) -> dict[str, Tensor]:
        """Return an image with its label, as a data set gives them."""
        return {"image": self.images[number], "label": self.labels[number]}

    @property
    def values(self) -> tuple[float, float]:
        """The range of pixels that an attacker assumes: 0 to 1, and wider where images are."""
        return min(0.0, float(self.images.min())), max(1.0, float(self.images.max()))

    @property
    def common_label(self) -> float:
        """The share of the images that have the most common label."""
        return int(self.labels.bincount().max()) / len(self)


def draw_images(data: FederatedDataModule, wanted: int, needed: int, seed: int) -> TrialImages:
    """Draw training images of all hospitals in turn, each hospital's in random order.

    Raises:
        ConfigError: samples lack a label or an image of two dimensions, or are too few.
    """
    queues = [_shuffled(data, site, seed) for site in data.training_sites()]
    in_turn = (sample for turn in zip_longest(*queues) for sample in turn if sample is not None)
    samples = [_checked(sample, data) for sample in islice(in_turn, wanted)]
    if len(samples) < needed:
        raise ConfigError(
            f"The audit needs {needed} training images in each trial, but all hospitals together "
            f"have {len(samples)}. Add patients, or {REMEDY}"
        )
    images = torch.stack([sample["image"] for sample in samples])
    return TrialImages(images, torch.stack([sample["label"] for sample in samples]))


def _shuffled(data: FederatedDataModule, site: str, seed: int) -> Iterator[Any]:
    """Yield a hospital's training samples in random order, without augmentation."""
    bound = data.for_site(site, seed)
    dataset: Dataset[Any] = bound.split_dataset("train")
    generator = np.random.default_rng(derive_seed(seed, site, "audit"))
    for number in generator.permutation(bound.sample_count("train")).tolist():
        yield dataset[number]


def _checked(sample: Any, data: FederatedDataModule) -> Mapping[str, Tensor]:
    name = type(data).__name__
    content = sorted(sample) if isinstance(sample, Mapping) else type(sample).__name__
    if (
        "label" not in content
        or "image" not in content
        or not isinstance(sample, Mapping)
        or sample["label"].is_floating_point()
    ):
        raise ConfigError(
            f"The audit reads labels from gradients, but a sample of {name} is {content}, without "
            f"image and class number. Use data and a task with one label an image, e.g. "
            f"datamodules.LabelledPhantoms with models.Classification, or {REMEDY}"
        )
    shape = tuple(sample["image"].shape)
    if len(shape) != 3 or min(shape[1:]) < SSIM_WINDOW:
        raise ConfigError(
            f"The audit attacks images of shape (channels, height, width), at least {SSIM_WINDOW} "
            f"pixels wide, but {name} gives {shape}. Take such images, or {REMEDY}"
        )
    return sample
