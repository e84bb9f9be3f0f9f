"""Keep running variances usable under the noise of site-level privacy."""

import torch
from torch import Tensor, nn

from lightning_fl.training.layout import Layout

VARIANCE = "running_var"
LEAST_VARIANCE = 0.01
"""A smaller running variance, or a negative one, would be the noise's doing."""


def running_variances(module: nn.Module, layout: Layout) -> Tensor:
    """Return which values of the flat vector are running variances; bool, shape (length,)."""
    names = {
        f"{name}.{VARIANCE}" if name else VARIANCE
        for name, layer in module.named_modules(remove_duplicate=False)
        if isinstance(getattr(layer, VARIANCE, None), Tensor)
    }
    return layout.mask(names)


def raise_variances(weights: Tensor, variances: Tensor) -> Tensor:
    """Return weights whose variances can be divided by; look at nothing but the weights."""
    return torch.where(variances, weights.clamp(min=LEAST_VARIANCE), weights)


def as_they_are(weights: Tensor) -> Tensor:
    """Return weights that nothing has spoiled."""
    return weights
