"""Start a net's output bias where rare foreground wants it, without touching the net's code.

With a bias of zero every pixel begins as probable as not. Where foreground is rare, the first steps
then push all logits down together, and some nets (GroupNorm) never come back from an empty mask.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from models.checks import SEGMENTATION, checked_logits, try_net
from models.evaluation_mode import evaluation_mode

PROBE_SIZES = (64, 96, 224)
"""Sides of the images tried in turn; a vision transformer may take only the last."""


def start_output_bias(net: nn.Module, classes: int, prior: float, *, sigmoid: bool) -> None:
    """Set the net's bias so that foreground begins with about the probability `prior`.

    Raises:
        ConfigError: no bias of the net moves the logits and nothing but them.
    """
    bias = find_output_bias(net, classes)
    with torch.no_grad():
        bias.copy_(prior_logits(classes, prior, sigmoid=sigmoid))


def prior_logits(classes: int, prior: float, *, sigmoid: bool) -> Tensor:
    """Return logits whose sigmoid gives `prior` in each channel, or whose softmax does in all.

    With a softmax the classes of the foreground share `prior` evenly and keep a logit of 0.
    """
    if sigmoid:
        return torch.full((classes,), math.log(prior / (1 - prior)))
    logits = torch.zeros(classes)
    logits[0] = math.log((classes - 1) * (1 - prior) / prior)
    return logits


def find_output_bias(net: nn.Module, classes: int) -> nn.Parameter:
    """Find the bias of the layer that gives the logits by trying, the last layer first.

    A bias belongs to the logits if adding 1 to an entry adds 1 to every pixel of that channel and
    nothing to the others. So a layer is found under any name, behind an upsampling or a residual
    sum, and never mistaken for one before a normalisation or an activation.
    """
    with evaluation_mode(net):
        images, before = _probe(net, classes)
        for bias in _candidates(net, classes):
            if all(_shifts_channel(net, images, before, bias, entry) for entry in range(classes)):
                return bias
    raise ConfigError(
        f"Found no bias in {type(net).__name__} that shifts its {classes} channel(s) of logits and "
        "nothing else, so `foreground_prior` cannot be set. Set `foreground_prior` to null, or "
        "check that the net ends without an activation and that its classes are the task's."
    )


def _candidates(net: nn.Module, classes: int) -> Iterator[nn.Parameter]:
    """Yield biases with an entry for each class, the last registered first."""
    for name, parameter in reversed(list(net.named_parameters())):
        if name.rpartition(".")[2] == "bias" and parameter.shape == (classes,):
            yield parameter


def _shifts_channel(
    net: nn.Module, images: Tensor, before: Tensor, bias: nn.Parameter, entry: int
) -> bool:
    """Tell whether adding 1 to an entry of the bias adds 1 to that channel of the logits only."""
    start = bias.detach().clone()
    bias[entry] += 1.0
    try:
        shift = net(images) - before
    finally:
        bias.copy_(start)
    expected = torch.zeros_like(shift)
    expected[:, entry] = 1.0
    return torch.allclose(shift, expected, atol=1e-3)


def _probe(net: nn.Module, classes: int) -> tuple[Tensor, Tensor]:
    """Return two random images of a size that the net accepts, and their logits."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    reason = "it has no 2-D convolution."
    if first is not None:
        for size in PROBE_SIZES:
            images = _noise(first, size)
            try:
                output = try_net(net, images)
            except ConfigError as error:
                reason = str(error)
            else:
                return images, checked_logits(output, classes, SEGMENTATION)
    raise ConfigError(
        f"Cannot try {type(net).__name__} to find its output bias: {reason} Or set "
        "`foreground_prior` to null."
    )


def _noise(first: nn.Conv2d, size: int) -> Tensor:
    """Draw two images for the net's first convolution, equal at every call."""
    generator = torch.Generator().manual_seed(0)  # leaves the run's own random numbers alone
    images = torch.randn(2, first.in_channels, size, size, generator=generator)
    return images.to(first.weight)
