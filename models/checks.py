"""Do the net's output, the truth and the task's settings fit? Errors that say what to set."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError, DataError


class ExpectedLogits(NamedTuple):
    """The logits that a task needs, and what to do about others.

    Attributes:
        axes: names of their axes.
        several: the remedy for a net that returns more than one tensor.
        shape: the remedy for a tensor with other axes.
    """

    axes: tuple[str, ...]
    several: str
    shape: str


CLASSIFICATION = ExpectedLogits(
    ("batch", "classes"),
    several="Turn off its auxiliary outputs, or take a net that returns logits alone.",
    shape="Use a classification net; one for segmentation belongs to models.Segmentation.",
)
SEGMENTATION = ExpectedLogits(
    ("batch", "classes", "height", "width"),
    several="Turn off its deep supervision or auxiliary outputs (in segmentation_models_pytorch: "
    "`aux_params: null`, in MONAI: `deep_supervision: false`).",
    shape="Use a 2-D segmentation net.",
)


def try_net(net: nn.Module, images: Tensor) -> Any:  # a net may return anything
    """Return what the net makes of some images; raise a ConfigError if it cannot take them."""
    try:
        return net(images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # AssertionError: timm
        raise ConfigError(
            f"{type(net).__name__} cannot take images of shape {tuple(images.shape)} (batch, "
            f"channels, then depth in 3-D, height, width): {error} Change the net's dimensions or "
            "input channels, or `channels` or `size` in the datamodule."
        ) from error


def checked_logits(output: Any, classes: int, expected: ExpectedLogits) -> Tensor:
    """Return the net's output; raise a ConfigError if it is not one tensor of these logits."""
    if not isinstance(output, Tensor):
        raise ConfigError(
            "Expected the net to return one tensor of logits, but got a "
            f"{type(output).__name__}. {expected.several}"
        )
    if output.ndim != len(expected.axes):
        raise ConfigError(
            f"Expected the net to return logits ({', '.join(expected.axes)}), but got a tensor of "
            f"shape {tuple(output.shape)}. {expected.shape}"
        )
    if output.shape[1] != classes:
        raise ConfigError(
            f"The net gives {output.shape[1]} channels, but `task.classes` is {classes}; set "
            f"`task.classes` to {output.shape[1]} or the net's output channels (`classes`, in "
            f"MONAI `out_channels` or `num_classes`) to {classes}."
        )
    return output


def check_sizes(logits: Tensor, mask: Tensor, *, regions: bool = False) -> None:
    """Raise a ConfigError unless logits (B, classes, H, W) belong to a mask (B, H, W).

    A mask of regions is (B, classes, H, W).
    """
    if regions and (mask.ndim != 4 or mask.shape[1] != logits.shape[1]):
        raise ConfigError(
            f"Expected masks of {logits.shape[1]} regions (batch, regions, height, width), but got "
            f"{tuple(mask.shape)}. Set `task.classes` to the number of regions of the datamodule, "
            "or `task.regions` to false for class numbers."
        )
    if not regions and mask.ndim != 3:
        raise ConfigError(
            "Expected masks of shape (batch, height, width) with class numbers, but got "
            f"{tuple(mask.shape)}. Drop the channel dimension in the datamodule, or set "
            "`task.regions` to true for overlapping regions."
        )
    if logits.shape[-2:] != mask.shape[-2:] or len(logits) != len(mask):
        raise ConfigError(
            f"The net gives logits of {_size(logits)} for masks of {_size(mask)}. Use a net that "
            "keeps the image's size (in segmentation_models_pytorch: `upsampling`), or check that "
            "the datamodule gives image and mask the same size."
        )


def check_mask_values(mask: Tensor, classes: int) -> None:
    """Raise a DataError for a mask that holds other than class numbers; a binary one holds 0 and 1.

    Any mask may hold `IGNORE`. It waits for the device, so it is not for every step.
    """
    if mask.is_floating_point():
        raise DataError(f"Expected masks of class numbers (int64), but got {mask.dtype}.")
    _check_class_numbers(mask[mask != IGNORE], classes, "A mask holds")
    if classes == 1 and torch.unique(mask).tolist() == [0, IGNORE]:
        warnings.warn(
            f"A batch of masks holds 0 and {IGNORE} alone. Pixels of {IGNORE} are ignored; let the "
            "datamodule give 1 for foreground if that is what they are.",
            stacklevel=2,
        )


def check_several_labels(labels: Tensor, images: Tensor, count: int) -> None:
    """Raise an error unless each image has `count` labels of 0, 1 or NaN, which is missing."""
    if labels.shape != (len(images), count) or not labels.is_floating_point():
        raise ConfigError(
            f"Expected float labels of shape ({len(images)}, {count}), one for each of "
            f"`task.classes`, but got {labels.dtype} of {tuple(labels.shape)}. Set `task.classes` "
            "to the number of labels, or `task.multilabel` to false for class numbers."
        )
    wrong = torch.unique(labels[(labels != 0) & (labels != 1) & ~labels.isnan()]).tolist()
    if wrong:
        raise DataError(
            f"Labels hold the values {wrong[:10]}, but each of several labels is 0, 1 or missing "
            "(NaN). Let the datamodule turn others, e.g. -1 for uncertain, into one of these."
        )


def check_labels(labels: Tensor, images: Tensor, classes: int) -> None:
    """Raise an error unless each image has a class number as its label; a binary one is 0 or 1.

    It waits for the device, so it is not for every step.
    """
    if labels.shape != images.shape[:1]:
        raise ConfigError(
            f"Expected labels of shape ({len(images)},), one class number for each image, but got "
            f"{tuple(labels.shape)}. Let the datamodule give a scalar as the label of a sample, or "
            "set `task.multilabel` to true if an image may have several labels."
        )
    if labels.is_floating_point():
        raise DataError(f"Expected labels to be class numbers (int64), but got {labels.dtype}.")
    _check_class_numbers(labels, classes, "Labels hold")


def _check_class_numbers(numbers: Tensor, classes: int, holder: str) -> None:
    largest = max(classes, 2) - 1
    wrong = torch.unique(numbers[(numbers < 0) | (numbers > largest)]).tolist()
    if wrong:
        raise DataError(
            f"{holder} the values {wrong[:10]}, but `task.classes` is {classes}, which allows "
            f"0 to {largest}. Set `task.classes` to the number of classes (1 for a binary task), "
            "or let the datamodule turn the values into class numbers."
        )


def _size(tensor: Tensor) -> str:
    """Return batch and spatial size, e.g. "8 x 64 x 64"."""
    return " x ".join(str(n) for n in (len(tensor), *tensor.shape[-2:]))
