"""The small convolutional net that gradient-inversion papers attack."""

import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError

_BOUND = 0.5
_CONV_INPUTS, _LINEAR_INPUTS = 12 * 25, 768
"""Inputs of a unit in the paper's net, of 12 channels and 32 px; above them weights shrink."""


class LeNet(nn.Module):
    """Four convolutions with sigmoids and one linear layer (Zhu et al. 2019, Zhao et al. 2020).

    Strides take the place of pooling, and everything is smooth, which L-BFGS on the net's gradient
    needs. Weights and biases start uniform in -0.5 to 0.5 as in the papers, so that sigmoids
    work in their curved part and gradients stay large. Where a unit has more inputs than in the
    papers' net, bounds shrink with the root of their number, since the sigmoids would saturate.

    Images (B, in_channels, size, size) become logits (B, classes). At 32 px, width 12 is the
    papers' net; at 64 px take 24, or the gradient has too few entries for the pixels.

    Args:
        in_channels: channels of the images.
        classes: number of logits.
        size: width and height of the images in pixels, a multiple of 4.
        width: channels of each convolution.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self, in_channels: int = 1, classes: int = 2, size: int = 32, width: int = 12
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("classes", classes), ("width", width)):
            if value < 1:
                raise ConfigError(f"Expected `{name}` to be at least 1, but got {value}.")
        if size < 4 or size % 4:
            raise ConfigError(f"Expected `size` to be a multiple of 4, but got {size}.")
        self.body = nn.Sequential(
            *_block(in_channels, width, stride=2),
            *_block(width, width, stride=2),
            *_block(width, width, stride=1),
            *_block(width, width, stride=1),
        )
        self.head = nn.Linear(width * (size // 4) ** 2, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _start(layer)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, classes) of images (B, in_channels, size, size)."""
        logits: Tensor = self.head(self.body(image).flatten(1))
        return logits


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel_size=5, stride=stride, padding=2), nn.Sigmoid()


@torch.no_grad()
def _start(layer: nn.Conv2d | nn.Linear) -> None:
    """Draw a layer's weights and bias."""
    usual = _CONV_INPUTS if isinstance(layer, nn.Conv2d) else _LINEAR_INPUTS
    bound = _BOUND * min(1.0, (usual / layer.weight[0].numel()) ** 0.5)
    layer.weight.uniform_(-bound, bound)
    if layer.bias is not None:
        layer.bias.uniform_(-_BOUND, _BOUND)
