"""Augmentation of an image together with its mask."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError


def augmented(sample: Sample, transform: Callable[..., Any]) -> Sample:
    """Transform an image and its mask alike, e.g. by one of torchvision.transforms.v2.

    The transform gets an Image and a Mask of torchvision's tv_tensors. These types tell it what to
    do: geometry moves both, the mask without mixing classes, and intensities change in the image
    alone. The sample that is returned has plain tensors.

    Raises:
        ConfigError: the transform returned anything but an image and a mask of one size.
    """
    result = transform(tv_tensors.Image(sample["image"]), tv_tensors.Mask(sample["mask"]))
    match result:
        case Tensor() as image, Tensor() as mask if (
            image.ndim == 3 and image.shape[1:] == mask.shape[-2:]
        ):
            plain_image, plain_mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
            return Sample(image=plain_image.to(torch.float32), mask=plain_mask.to(torch.int64))
    raise ConfigError(
        f"Expected `augment` to return an image (channels, height, width) and a mask (height, "
        f"width) of one size, but {transform} returned {_describe(result)}. Use transforms of "
        "torchvision.transforms.v2, which take the image and the mask together."
    )


def _describe(result: object) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    if isinstance(result, tuple | list):
        return "(" + ", ".join(_describe(part) for part in result) + ")"
    return f"a {type(result).__name__}"
