"""Augmentation of an image with its mask or its label, by transforms of three libraries."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from lightning_fl.data.module import LabelledSample, Sample
from lightning_fl.errors import ConfigError

Transform = Callable[..., Any]


def augmented(sample: Sample, transform: Transform) -> Sample:
    """Transform an image and its mask alike; a mask of regions is (R, H, W).

    A transform of torchvision.transforms.v2 gets an Image and a Mask of torchvision's tv_tensors.
    One of MONAI gets a dictionary with the keys "image" and "mask", both with channels first. One
    of albumentations is called with `image` and `mask`, channels last. Any other callable is called
    as torchvision's are. Geometry must move both without mixing classes, and intensities change in
    the image alone. The sample that is returned has plain tensors.

    Raises:
        ConfigError: the transform returned anything but an image and a mask of one size, or a mask
            of other numbers than classes.
    """
    match _apply(transform, {"image": sample["image"], "mask": sample["mask"]}):
        case {"image": Tensor() as image, "mask": Tensor() as mask} if (
            image.ndim == 3 and image.shape[1:] == mask.shape[-2:]
        ):
            if mask.is_floating_point() and (mask != mask.round()).any():
                raise ConfigError(
                    f"`augment` mixes the classes of a mask: {transform} returned numbers between "
                    "them. Let it take the nearest pixel of a mask, in MONAI by "
                    "`mode: [bilinear, nearest]` for the keys [image, mask]."
                )
            return Sample(image=image.to(torch.float32), mask=mask.to(torch.int64))
        case result:
            raise ConfigError(
                f"Expected `augment` to return an image (channels, height, width) and a mask "
                f"(height, width) of one size, but {transform} returned {_describe(result)}. Use "
                "transforms that take the image and the mask together, of "
                "torchvision.transforms.v2, MONAI or albumentations."
            )


def augmented_labelled(sample: LabelledSample, transform: Transform) -> LabelledSample:
    """Transform an image that has a label; MONAI's dictionary has it as "label".

    Raises:
        ConfigError: the transform returned anything but an image.
    """
    match _apply(transform, {"image": sample["image"], "label": sample["label"]}):
        case {"image": Tensor() as image} if image.ndim == 3:
            return LabelledSample(image=image.to(torch.float32), label=sample["label"])
        case result:
            raise ConfigError(
                "Expected `augment` to return an image (channels, height, width) for an image with "
                f"a label, but {transform} returned {_describe(result)}."
            )


def _apply(transform: Transform, data: dict[str, Tensor]) -> object:
    """Call a transform as its library does; return plain tensors by name, or what is none."""
    # Their names are asked, as importing a library takes seconds and it need not be installed.
    libraries = {base.__module__.partition(".")[0] for base in type(transform).__mro__}
    if "monai" in libraries:
        return _by_monai(transform, data)
    if "albumentations" in libraries:
        return _by_albumentations(transform, data)
    mask = (tv_tensors.Mask(data["mask"]),) if "mask" in data else ()
    result = transform(tv_tensors.Image(data["image"]), *mask)
    match result, mask:
        case (Tensor() as image, ()):
            return {"image": image.as_subclass(Tensor)}
        case ((Tensor() as image, Tensor() as moved), (_,)):
            return {"image": image.as_subclass(Tensor), "mask": moved.as_subclass(Tensor)}
    return result


def _by_monai(transform: Any, data: dict[str, Tensor]) -> object:
    """Apply a dictionary transform of MONAI, whose random state follows from torch's."""
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(_seed())
    flat = "mask" in data and data["mask"].ndim == 2
    given = data | ({"mask": data["mask"][None]} if flat else {})
    try:
        result = transform(given)
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"The MONAI transform of `augment` failed on a dictionary with the keys "
            f"{list(data)}: {error}. Use dictionary transforms, such as RandFlipd, with these "
            "`keys`."
        ) from error
    if not isinstance(result, Mapping):
        return result
    plain = {
        key: value.as_subclass(Tensor)
        for key, value in result.items()
        if key in data and isinstance(value, Tensor)
    }
    return plain | ({"mask": plain["mask"][0]} if flat and "mask" in plain else {})


def _by_albumentations(transform: Any, data: dict[str, Tensor]) -> object:
    """Apply a transform of albumentations to arrays (H, W, C)."""
    if hasattr(transform, "set_random_seed"):
        transform.set_random_seed(_seed())
    arrays = {"image": data["image"].permute(1, 2, 0).contiguous().numpy()}
    if "mask" in data:
        mask = data["mask"].to(torch.uint8)  # OpenCV has no int64
        last = mask.permute(1, 2, 0) if mask.ndim == 3 else mask
        arrays["mask"] = last.contiguous().numpy()
    result = {key: torch.tensor(value) for key, value in transform(**arrays).items()}
    return {k: v.permute(2, 0, 1) if v.ndim == 3 else v for k, v in result.items()}


def _seed() -> int:
    """Draw a seed from torch, so that a run repeats itself and loaders' workers differ."""
    return int(torch.randint(2**31, ()))


def _describe(result: object) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    if isinstance(result, Mapping):
        return ", ".join(f"{key}: {_describe(value)}" for key, value in result.items())
    if isinstance(result, tuple | list):
        return "(" + ", ".join(_describe(part) for part in result) + ")"
    return f"a {type(result).__name__}"
