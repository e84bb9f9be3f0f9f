"""Losses of segmentation; all take logits (B, classes, H, W) and a mask (B, H, W)."""

import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, SoftBCEWithLogitsLoss
from torch import Tensor, nn

from lightning_fl.errors import ConfigError


class DiceCrossEntropy(nn.Module):
    """Weighted sum of soft Dice loss and cross-entropy, `dice * D + cross_entropy * CE`.

    One channel of logits is a binary task (sigmoid), more are classes (softmax). Dice sums over all
    pixels of the batch and, with classes, averages over the foreground classes. A class that no
    pixel of the batch has adds 0 to D, so a batch without foreground is left to the cross-entropy.

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
        """Return the loss of logits (B, classes, H, W) and class numbers (B, H, W), a scalar."""
        overlap, pixels = dice_loss(logits, mask), cross_entropy(logits, mask)
        return self.dice * overlap + self.cross_entropy * pixels


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return `1 - 2 sum(p t) / (sum(p) + sum(t))`, the soft Dice loss, over foreground classes."""
    foreground = list(range(1, logits.shape[1]))
    loss = DiceLoss("multiclass", foreground) if foreground else DiceLoss("binary")
    value: Tensor = loss(logits, mask)
    return value


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over pixels, binary for one channel of logits and categorical for more."""
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, mask)
    loss: Tensor = SoftBCEWithLogitsLoss()(logits, mask.unsqueeze(1).to(logits.dtype))
    return loss
