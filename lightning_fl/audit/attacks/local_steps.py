"""What a site would send if its images were the guess: one step, or several that are simulated."""

from typing import Protocol

from torch import Tensor

from lightning_fl.audit.attacks.gradients import Batch, Gradient, TaskGradient
from lightning_fl.errors import ConfigError


class Simulation(Protocol):
    """From a guessed batch to the (mean) gradient that it would give.

    `TaskGradient` is the simulation of one step.
    """

    @property
    def like(self) -> Tensor:
        """A tensor with the precision and the device of the weights."""
        ...

    def __call__(self, batch: Batch, *, create_graph: bool = False) -> Gradient:
        """The gradient, differentiable with respect to the batch if asked."""
        ...


class LocalSteps:
    """The mean gradient of several steps of plain SGD, each of which is simulated.

    Compare with `mean_gradient` of an update with the same `lr` and `steps`. Differentiating
    through the steps costs memory and time in proportion to them, so this is for a few.

    Args:
        gradient: of the task, at the weights before the first step.
        lr: the site's learning rate.
        steps: of the site in its round.
        batch_size: samples in a step; the steps go through the guessed images in order and begin
            again at the end. None puts all of them in every step.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self, gradient: TaskGradient, *, lr: float, steps: int, batch_size: int | None = None
    ) -> None:
        if lr <= 0:
            raise ConfigError(f"Expected `lr` to be positive, but got {lr}.")
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ConfigError(f"Expected `{name}` to be at least 1, but got {value}.")
        self.gradient = gradient
        self.lr = lr
        self.steps = steps
        self.batch_size = batch_size

    @property
    def like(self) -> Tensor:
        """A tensor with the precision and the device of the weights."""
        return self.gradient.like

    def __call__(self, batch: Batch, *, create_graph: bool = False) -> Gradient:
        """The mean gradient on the way, differentiable with respect to the batch if asked."""
        start = {n: w.detach().requires_grad_() for n, w in self.gradient.weights.items()}
        weights = start
        for step in range(self.steps):
            part = self._part(batch, step)
            found = self.gradient(part, weights=weights, create_graph=create_graph)
            weights = {name: weights[name] - self.lr * found[name] for name in weights}
        moved = {name: (start[name] - weights[name]) / (self.lr * self.steps) for name in weights}
        return moved if create_graph else {name: value.detach() for name, value in moved.items()}

    def _part(self, batch: Batch, step: int) -> Batch:
        """The samples of a step; the last part of the images may be smaller than the others."""
        images = len(batch["image"])
        size = self.batch_size or images
        parts = -(-images // size)
        first = step % parts * size
        return {name: value[first : first + size] for name, value in batch.items()}
