"""Look at a network's output without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Evaluate without gradients; afterwards each submodule has the mode that it had before.

    `net.train()` would not do as the way back: it would wake layers that were frozen on purpose.
    """
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
