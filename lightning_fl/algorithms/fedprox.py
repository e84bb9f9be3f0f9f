"""Train locally, held near the global weights: FedProx."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fl.algorithms.base import Algorithm, LocalFit
from lightning_fl.errors import ConfigError


class FedProx(Algorithm):
    """Federated averaging with a proximal term (Li et al. 2020, arXiv 1812.06127, equation 2).

    In round t site k trains on

        h_k(w; w^t) = F_k(w) + mu / 2 |w - w^t|^2

    where w^t are the weights it received (in a fit outside of a run, those it begins with):
    mu (w - w^t) is added to the gradient of every weight that is shared. Layers that stay at the
    site have no global weights to be near and train freely. The loss that is logged is F_k alone.

    Args:
        mu: weight of the proximal term, >= 0; with 0 it is FedAvg.

    Raises:
        ConfigError: `mu` is negative or not a number.
    """

    one_optimizer = True

    def __init__(self, mu: float = 0.01, **common: Any) -> None:
        super().__init__(**common)
        if not 0 <= mu < math.inf:
            raise ConfigError(f"Expected `mu` to be non-negative and finite, but got {mu}.")
        self.mu = mu

    def before_batch(self, fit: LocalFit, batches: Sequence[Any]) -> None:
        """Remember the weights that the round began with."""
        if "anchor" not in fit.memory:
            shared = self.shared_parameters(fit.module) if self.mu else {}
            fit.memory["anchor"] = [
                (weight, self.received.get(name, weight).detach().clone().to(weight))
                for name, weight in shared.items()
            ]

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Add the proximal term's gradient to the loss's."""
        add_proximal_gradient(fit.memory["anchor"], self.mu)


@torch.no_grad()
def add_proximal_gradient(anchor: Sequence[tuple[nn.Parameter, Tensor]], mu: float) -> None:
    """Add the gradient of mu / 2 |w - w^t|^2 to `.grad`, for pairs of w and w^t.

    A weight without a gradient is left alone, as its optimiser leaves it.
    """
    for weight, origin in anchor:
        if weight.grad is not None:
            weight.grad.add_(weight - origin, alpha=mu)
