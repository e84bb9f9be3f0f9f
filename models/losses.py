"""Losses of segmentation: logits (B, classes, H, W) and class numbers (B, H, W), or regions.

The mask of overlapping regions has the shape of the logits and holds 0 and 1. Pixels of `IGNORE`
count nowhere; where a batch has no others, a loss is 0 and so is its gradient.
"""

import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn

from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError


class DiceCrossEntropy(nn.Module):
    """Weighted sum of soft Dice loss and cross-entropy, `dice * D + cross_entropy * CE`.

    One channel of logits is a binary task (sigmoid), more are classes (softmax) or, with a mask for
    each channel, overlapping regions (sigmoid). Dice sums over all pixels of the batch and averages
    over the foreground classes or regions. One that no pixel of the batch has adds 0 to D, so a
    batch without foreground is left to the cross-entropy.

    Args:
        dice: weight of the Dice loss.
        cross_entropy: weight of the (binary) cross-entropy.
    """

    def __init__(self, dice: float = 1.0, cross_entropy: float = 1.0) -> None:
        super().__init__()
        if min(dice, cross_entropy) < 0 or dice + cross_entropy <= 0:
            raise ConfigError(
                "Expected `dice` and `cross_entropy` to be weights of at least 0, one of them "
                f"above 0, but got {dice} and {cross_entropy}."
            )
        self.dice = dice
        self.cross_entropy = cross_entropy

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the loss of logits (B, classes, H, W) and a mask, a scalar."""
        overlap, pixels = dice_loss(logits, mask), cross_entropy(logits, mask)
        return self.dice * overlap + self.cross_entropy * pixels


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return `1 - 2 sum(p t) / (sum(p) + sum(t))`, the soft Dice loss, over the foreground."""
    if _is_softmax(logits, mask):
        loss = DiceLoss("multiclass", list(range(1, logits.shape[1])), ignore_index=IGNORE)
    else:
        loss = DiceLoss("multilabel", ignore_index=IGNORE)
    value: Tensor = loss(logits, mask)
    return value


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over images of the mean over pixels, binary or categorical.

    A mean over the pixels of all images would let what one image ignores change the weight of
    another, which clipping each image's gradient for privacy does not allow.
    """
    if _is_softmax(logits, mask):
        losses = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none")
        return mean_of_counted(losses, mask != IGNORE)
    regions = mask.view_as(logits)
    counted = regions != IGNORE
    truth = regions.where(counted, 0).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return mean_of_counted(losses, counted)


def mean_of_counted(losses: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over images of the mean of those losses (B, ...) that count.

    An image without any adds 0.
    """
    sums = (losses * counted).flatten(1).sum(dim=1)
    return (sums / counted.flatten(1).sum(dim=1).clamp(min=1)).mean()


def _is_softmax(logits: Tensor, mask: Tensor) -> bool:
    """Return whether the mask holds class numbers of more than foreground and background."""
    return logits.shape[1] > 1 and mask.ndim < logits.ndim
