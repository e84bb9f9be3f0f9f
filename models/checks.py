"""Do the net's output, the masks and the task's settings fit? Errors that say what to set."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError, DataError


def try_net(net: nn.Module, images: Tensor) -> Any:  # a net may return anything
    """What the net makes of some images.

    Raises:
        ConfigError: the net does not take images of this shape.
    """
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


def checked_logits(output: Any, classes: int) -> Tensor:  # a net may return anything
    """The net's output, which must be one tensor (B, classes, H, W).

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"Expected the net to return one tensor of logits, but got a {type(output).__name__}. "
            "Turn off its deep supervision or auxiliary outputs (in segmentation_models_pytorch: "
            "`aux_params: null`, in MONAI: `deep_supervision: false`)."
        )
    if output.ndim != 4:
        raise ConfigError(
            "Expected the net to return logits (batch, classes, height, width), but got a tensor "
            f"of shape {tuple(output.shape)}. Use a 2-D segmentation net."
        )
    if output.shape[1] != classes:
        raise ConfigError(
            f"The net gives {output.shape[1]} channels, but `task.classes` is {classes}; set "
            f"`task.classes` to {output.shape[1]} or the net's output channels (`classes`, in "
            f"MONAI `out_channels`) to {classes}."
        )
    return output


def check_sizes(logits: Tensor, mask: Tensor) -> None:
    """Logits (B, classes, H, W) belong to a mask (B, H, W).

    Raises:
        ConfigError: they have different sizes.
    """
    if mask.ndim != 3:
        raise ConfigError(
            "Expected masks of shape (batch, height, width) with class numbers, but got "
            f"{tuple(mask.shape)}. Drop the channel dimension in the datamodule."
        )
    if logits.shape[-2:] != mask.shape[-2:] or len(logits) != len(mask):
        raise ConfigError(
            f"The net gives logits of {_size(logits)} for masks of {_size(mask)}. Use a net that "
            "keeps the image's size (in segmentation_models_pytorch: `upsampling`), or check that "
            "the datamodule gives image and mask the same size."
        )


def check_mask_values(mask: Tensor, classes: int) -> None:
    """A mask holds class numbers only. Waits for the device, so not for every training step.

    Args:
        mask: class numbers of any shape.
        classes: number of classes; 1 for a binary task, whose mask holds 0 and 1.

    Raises:
        DataError: it holds other values, which are named.
    """
    if mask.is_floating_point():
        raise DataError(f"Expected masks of class numbers (int64), but got {mask.dtype}.")
    check_class_numbers(mask, classes, "A mask holds")


def check_class_numbers(numbers: Tensor, classes: int, holder: str) -> None:
    """Raise a DataError for numbers that are no class; `holder` says who holds them."""
    largest = max(classes, 2) - 1
    wrong = torch.unique(numbers[(numbers < 0) | (numbers > largest)]).tolist()
    if wrong:
        raise DataError(
            f"{holder} the values {wrong[:10]}, but `task.classes` is {classes}, which allows "
            f"0 to {largest}. Set `task.classes` to the number of classes (1 for a binary task), "
            "or let the datamodule turn the values into class numbers."
        )


def _size(tensor: Tensor) -> str:
    """Batch and spatial size, e.g. "8 x 64 x 64"."""
    return " x ".join(str(n) for n in (len(tensor), *tensor.shape[-2:]))
