"""What an audit needs of a task and its data, checked before anything is trained."""

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.audit.attacks.gradients import Gradient, TaskGradient
from lightning_fl.audit.attacks.idlg import read_label
from lightning_fl.audit.attacks.image_scores import SSIM_WINDOW
from lightning_fl.audit.trials import Candidates
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.seeds import derive_seed

OTHERWISE = "set `audit.trials` to 0; membership inference is for any task."


def sgd_rate(template: pl.LightningModule) -> float:
    """The learning rate of a task that trains by plain SGD.

    Raises:
        ConfigError: it trains otherwise, so an update is no multiple of the gradient.
    """
    found = template.configure_optimizers()
    optimizer = found["optimizer"] if isinstance(found, Mapping) else found
    if not isinstance(optimizer, torch.optim.SGD) or len(optimizer.param_groups) != 1:
        raise ConfigError(
            f"The audit reads a gradient out of one step of plain SGD, but the task's optimiser is "
            f"{type(optimizer).__name__}. Set it to torch.optim.SGD for the audit, or {OTHERWISE}"
        )
    group = optimizer.param_groups[0]
    for name in ("momentum", "weight_decay"):
        if group[name] != 0:
            raise ConfigError(
                f"The audit reads a gradient out of one step of plain SGD, but `{name}` is "
                f"{group[name]}. Set it to 0 for the audit, or {OTHERWISE}"
            )
    return float(group["lr"])


def candidates_of(data: FederatedDataModule, count: int, least: int, seed: int) -> Candidates:
    """Training images of all hospitals in turn, each hospital's in random order.

    Args:
        data: of the run.
        count: how many are wanted.
        least: how many are needed.
        seed: of the run.

    Raises:
        ConfigError: samples lack a label or an image of two dimensions, or are too few.
    """
    queues = [_shuffled(data, site, seed) for site in data.training_sites()]
    in_turn = (sample for turn in zip_longest(*queues) for sample in turn if sample is not None)
    samples = [_checked(sample, data) for sample in islice(in_turn, count)]
    if len(samples) < least:
        raise ConfigError(
            f"The audit needs {least} training images in each trial, but all hospitals together "
            f"have {len(samples)}. Add patients, or {OTHERWISE}"
        )
    images = torch.stack([sample["image"] for sample in samples])
    return Candidates(images, torch.stack([sample["label"] for sample in samples]))


def _shuffled(data: FederatedDataModule, site: str, seed: int) -> Iterator[Any]:
    """A hospital's training samples in random order, without augmentation."""
    bound = data.for_site(site, seed)
    dataset: Dataset[Any] = bound.split_dataset("train")
    generator = np.random.default_rng(derive_seed(seed, site, "audit"))
    for number in generator.permutation(bound.sample_count("train")).tolist():
        yield dataset[number]


def _checked(sample: Any, data: FederatedDataModule) -> Mapping[str, Tensor]:
    name = type(data).__name__
    has = sorted(sample) if isinstance(sample, Mapping) else type(sample).__name__
    if "label" not in has or "image" not in has or not isinstance(sample, Mapping):
        raise ConfigError(
            f"The audit reads labels from gradients, but a sample of {name} is {has}, without "
            f"image and label. Use data and a task with labels, e.g. "
            f"datamodules.LabelledPhantoms with models.Classification, or {OTHERWISE}"
        )
    shape = tuple(sample["image"].shape)
    if len(shape) != 3 or min(shape[1:]) < SSIM_WINDOW:
        raise ConfigError(
            f"The audit attacks images of shape (channels, height, width), at least {SSIM_WINDOW} "
            f"pixels wide, but {name} gives {shape}. Take such images, or {OTHERWISE}"
        )
    return sample


def check_readable(template: pl.LightningModule, candidates: Candidates) -> None:
    """Refuse nets whose gradient does not show the label, or that cannot take a single image.

    Raises:
        ConfigError: names the net and what it lacks.
    """
    gradient = TaskGradient(template)
    batch = {"image": candidates.images[:1], "label": candidates.labels[:1]}
    read_label(gradient.module, _tried(gradient, batch))


def _tried(gradient: TaskGradient, batch: Mapping[str, Tensor]) -> Gradient:
    """The gradient of one image.

    Raises:
        ConfigError: the net does not take images of this shape.
    """
    try:
        return gradient(batch)
    except (ConfigError, DataError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # AssertionError: timm
        net = type(getattr(gradient.module, "net", gradient.module)).__name__
        raise ConfigError(
            f"{net} cannot take images of shape {tuple(batch['image'].shape)} (batch, channels, "
            f"height, width): {error} Change the net's dimensions or input channels, or "
            f"`channels` or `size` in the datamodule, or {OTHERWISE}"
        ) from error


def value_range(images: Tensor) -> tuple[float, float]:
    """What an attacker knows of pixels: 0 to 1, or from the smallest to the largest beyond it."""
    return min(0.0, float(images.min())), max(1.0, float(images.max()))
