"""Step along the sites' mean update at the coordinator, by a server optimiser."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_fl.errors import ConfigError
from lightning_fl.training.layout import Layout, State


@dataclass(frozen=True)
class GlobalRound:
    """Hold what the coordinator knows when it applies a mean update.

    Attributes:
        round: the round of the updates.
        layout: of the weights.
        share: weight of the sites in the mean divided by that of all sites that train; |S| / N
            where all weigh the same.
        memory: what the server optimiser handed over in the round before, each of shape (length,).
    """

    round: int
    layout: Layout
    share: float = 1.0
    memory: Mapping[str, Tensor] = field(default_factory=dict)


class ServerOptimizer(ABC):
    """Take minus the mean update for a gradient of the global weights (Reddi et al. 2021).

    It acts on trainable weights alone: BatchNorm's running statistics, and layers that sites have
    values of their own of, get the plain mean (Adam could make a variance negative).
    """

    @abstractmethod
    def step(self, mean_update: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Return what to add to the weights, shape (length,), and what to remember for a round.

        `memory` is what was remembered in the round before; it is empty in the first.
        """


class ServerMomentum(ServerOptimizer):
    """Server momentum, FedAvgM (Hsu et al. 2019, arXiv 1909.06335, section 4.3).

        v <- momentum v + mean_update,    w <- w + lr v

    which is `torch.optim.SGD` on the gradient -mean_update. lr 1 and momentum 0 are FedAvg.

    Args:
        lr: server rate, > 0.
        momentum: from 0 to below 1.

    Raises:
        ConfigError: a value is outside.
    """

    def __init__(self, lr: float = 1.0, momentum: float = 0.9) -> None:
        _check_rate("lr", lr)
        _check_decay("momentum", momentum)
        self.lr = lr
        self.momentum = momentum

    def step(self, mean_update: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Step as the class describes."""
        velocity = mean_update
        if "velocity" in memory:
            velocity = self.momentum * memory["velocity"] + mean_update
        return self.lr * velocity, {"velocity": velocity}


class ServerAdam(ServerOptimizer):
    """FedAdam (Reddi et al. 2021, arXiv 2003.00295, algorithm 2).

        m <- b1 m + (1 - b1) mean_update
        v <- b2 v + (1 - b2) mean_update^2
        w <- w + lr m / (sqrt(v) + tau)

    with m = 0 and v = tau^2 before round 1 and, as in the paper, no correction of the bias: the
    first steps are small in m and not enlarged.

    Args:
        lr: server rate, > 0.
        betas: b1 and b2, each from 0 to below 1.
        tau: degree of adaptivity, > 0; the larger, the nearer to plain averaging.

    Raises:
        ConfigError: a value is outside.
    """

    def __init__(
        self, lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.99), tau: float = 0.001
    ) -> None:
        _check_rate("lr", lr)
        _check_rate("tau", tau)
        for beta in betas:
            _check_decay("betas", beta)
        self.lr = lr
        self.betas = betas
        self.tau = tau

    def step(self, mean_update: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Step as the class describes."""
        first, second = self.betas
        m = memory.get("m", torch.zeros_like(mean_update))
        v = memory.get("v", torch.full_like(mean_update, self.tau**2))
        m = first * m + (1 - first) * mean_update
        v = second * v + (1 - second) * mean_update.square()
        return self.lr * m / (v.sqrt() + self.tau), {"m": m, "v": v}


def _check_rate(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"Expected `{name}` to be positive and finite, but got {value}.")


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"Expected `{name}` to be from 0 to below 1, but got {value}.")
