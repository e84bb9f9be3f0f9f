"""Augmentation of an image together with its mask."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError


def augmented(sample: Sample, transform: Callable[..., Any]) -> Sample:
    """Transform an image and its mask alike.

    The types of torchvision's tv_tensors tell a v2 transform what to do: geometry moves both, the
    mask without mixing classes, and intensities change in the image alone.

    Args:
        sample: image and mask.
        transform: called with an Image and a Mask, returns both, e.g. one of
            torchvision.transforms.v2.

    Returns:
        The transformed sample as plain tensors.

    Raises:
        ConfigError: the transform returned something else than an image and a mask that fit.
    """
    image, mask = tv_tensors.Image(sample["image"]), tv_tensors.Mask(sample["mask"])
    result = transform(image, mask)
    if not _is_pair(result):
        raise ConfigError(
            f"Expected `augment` to return an image (channels, height, width) and a mask (height, "
            f"width) of one size, but {transform} returned {_describe(result)}. Use transforms of "
            "torchvision.transforms.v2, which take the image and the mask together."
        )
    new_image, new_mask = (tensor.as_subclass(Tensor) for tensor in result)
    return Sample(image=new_image.to(torch.float32), mask=new_mask.to(torch.int64))


def _is_pair(result: object) -> bool:
    if not isinstance(result, tuple | list) or len(result) != 2:
        return False
    image, mask = result
    if not isinstance(image, Tensor) or not isinstance(mask, Tensor):
        return False
    return image.ndim == 3 and image.shape[1:] == mask.shape


def _describe(result: object) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    if isinstance(result, tuple | list):
        return "(" + ", ".join(_describe(part) for part in result) + ")"
    return f"a {type(result).__name__}"
