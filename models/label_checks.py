"""Do a classifier's output, the labels and the task's settings fit? Errors that say what to set."""

from typing import Any

from torch import Tensor

from lightning_fl.errors import ConfigError, DataError
from models.checks import check_class_numbers


def checked_class_logits(output: Any, classes: int) -> Tensor:  # a net may return anything
    """The net's output, which must be one tensor (B, classes).

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"Expected the net to return one tensor of logits, but got a {type(output).__name__}. "
            "Turn off its auxiliary outputs, or take a net that returns logits alone."
        )
    if output.ndim != 2:
        raise ConfigError(
            "Expected the net to return logits (batch, classes), but got a tensor of shape "
            f"{tuple(output.shape)}. Use a classification net; one for segmentation belongs to "
            "models.Segmentation."
        )
    if output.shape[1] != classes:
        raise ConfigError(
            f"The net gives {output.shape[1]} channels, but `task.classes` is {classes}; set "
            f"`task.classes` to {output.shape[1]} or the net's output channels (in MONAI "
            f"`out_channels` or `num_classes`) to {classes}."
        )
    return output


def check_labels(labels: Tensor, images: Tensor, classes: int) -> None:
    """There is one class number for each image. Waits for the device, so not for every step.

    Args:
        labels: class numbers, of any shape.
        images: (B, ...).
        classes: of the task; 1 for a binary one, whose labels are 0 and 1.

    Raises:
        ConfigError: labels have another shape than (B,).
        DataError: they hold other values, which are named.
    """
    if labels.shape != images.shape[:1]:
        raise ConfigError(
            f"Expected labels of shape ({len(images)},), one class number for each image, but got "
            f"{tuple(labels.shape)}. Let the datamodule give a scalar as the label of a sample."
        )
    if labels.is_floating_point():
        raise DataError(f"Expected labels to be class numbers (int64), but got {labels.dtype}.")
    check_class_numbers(labels, classes, "Labels hold")
