"""The gradient that a site would send if its images were the guess, after several steps."""

from dataclasses import dataclass

from torch import Tensor

from lightning_fl.audit.attacks.gradients import Batch, Gradient, TaskGradient
from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class LocalSteps:
    """Simulates several steps of plain SGD, each of them on all guessed images.

    Compare with `mean_gradient` of an update with the same `lr` and `steps`. Differentiating
    through the steps costs memory and time in proportion to them, so this is for a few.

    Args:
        gradient: of the task, at the weights before the first step.
        lr: the site's learning rate.
        steps: of the site in its round.

    Raises:
        ConfigError: a setting is out of its range.
    """

    gradient: TaskGradient
    lr: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse settings that are out of their range."""
        if self.lr <= 0:
            raise ConfigError(f"Expected `lr` to be positive, but got {self.lr}.")
        if self.steps < 1:
            raise ConfigError(f"Expected `steps` to be at least 1, but got {self.steps}.")

    @property
    def like(self) -> Tensor:
        """A tensor with the precision and the device of the weights."""
        return self.gradient.like

    def __call__(self, batch: Batch, *, create_graph: bool = False) -> Gradient:
        """Return the mean gradient on the way, differentiable in the batch if asked."""
        start = {n: w.detach().requires_grad_() for n, w in self.gradient.weights.items()}
        weights = start
        for _ in range(self.steps):
            step = self.gradient(batch, weights=weights, create_graph=create_graph)
            weights = {name: weights[name] - self.lr * step[name] for name in weights}
        moved = {name: (start[name] - weights[name]) / (self.lr * self.steps) for name in weights}
        return moved if create_graph else {name: value.detach() for name, value in moved.items()}
