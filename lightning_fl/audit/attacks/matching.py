"""Gradient matching: how far a guess is from what was seen, and the best of several attempts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fl.audit.attacks.gradients import Gradient, TaskGradient
from lightning_fl.audit.attacks.local_steps import LocalSteps
from lightning_fl.audit.attacks.targets import Target
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.seeds import derive_seed

Distance = Callable[[Gradient, Gradient], Tensor]
"""From a guess's gradient and the seen one, which have the same names, to a scalar."""


@dataclass(frozen=True)
class Variables:
    """What an attempt moves: images (B, C, H, W), and logits of hidden labels or masks, if any."""

    images: Tensor
    logits: Tensor

    def tensors(self) -> list[Tensor]:
        """Return the tensors for the optimiser."""
        return [self.images, self.logits] if self.logits.numel() else [self.images]


@dataclass(frozen=True)
class Reconstruction:
    """The images that an attack recovers, and what else it knows of them.

    Attributes:
        images: (B, C, H, W), inside the range of values; their order means nothing.
        target: the labels (B,) or masks (B, H, W) that belong to them.
        objective: the attacker's own measure of success; infinite if no attempt stayed finite.
        seconds: wall-clock time of all starts.
    """

    images: Tensor
    target: Tensor
    objective: float
    seconds: float


@dataclass(frozen=True)
class Matching:
    """The problem that an attack solves: which batch gives this gradient?

    Attributes:
        simulate: from a batch to its gradient.
        seen: the gradient; entries that are no trainable parameter are ignored, and parameters
            that it lacks (those that stay at a site) are not compared.
        shape: of the images, (B, C, H, W).
        target: their labels or masks, or how to find them.
        values: smallest and largest value of a pixel.
    """

    simulate: TaskGradient | LocalSteps
    seen: Mapping[str, Tensor]
    shape: tuple[int, ...]
    target: Target
    values: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse what cannot be matched."""
        low, high = self.values
        if low >= high:
            raise ConfigError(f"Expected `values` to rise, but got {self.values}.")
        if min(self.shape) < 1:
            raise ConfigError(f"Expected `shape` to be positive, but got {self.shape}.")
        if not all(bool(value.isfinite().all()) for value in self.seen.values()):
            raise DataError("The seen gradient holds NaN or infinity, so nothing can match it.")
        if not any(bool(value.any()) for value in self.seen.values()):
            raise DataError("The seen gradient is zero everywhere; there is nothing to match.")

    def start(self, seed: int) -> Variables:
        """Draw images of middle grey with some noise, and random logits."""
        like = self.simulate.like
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator).to(like)

        low, high = self.values
        # Far from saturating a sigmoid: L-BFGS gets stuck less often than from full-range noise.
        images = (low + high) / 2 + 0.1 * (high - low) * draw(self.shape)
        logits = self.target.start(self.shape[0], draw)
        return Variables(images.requires_grad_(), logits.requires_grad_())

    def objective(self, variables: Variables, distance: Distance) -> Tensor:
        """Return how far the guess's gradient is from the seen one, differentiable in the guess.

        Raises:
            DataError: they have no parameter in common.
        """
        soft = self.target.soft(variables.logits)
        batch = {"image": variables.images, self.target.key: soft}
        gradient = self.simulate(batch, create_graph=True)
        shared = [name for name in gradient if name in self.seen]
        if not shared:
            raise DataError(
                f"The seen gradient has none of the module's parameters: it has "
                f"{sorted(self.seen)[:5]}, the module {sorted(gradient)[:5]}."
            )
        seen = {name: self.seen[name].to(gradient[name]) for name in shared}
        return distance({name: gradient[name] for name in shared}, seen)

    def best(
        self, attempt: Callable[[Variables], float], *, restarts: int, seed: int, good_enough: float
    ) -> Reconstruction:
        """Keep the attempt with the smallest objective; the true image has no part in the choice.

        Args:
            attempt: moves the variables in place and returns their objective.
            restarts: how many starts to try at most, at least 1.
            seed: of the starts.
            good_enough: objective at which no other start is tried.

        Raises:
            ConfigError: `restarts` is below 1.
        """
        if restarts < 1:
            raise ConfigError(f"Expected `restarts` to be at least 1, but got {restarts}.")
        began = time.perf_counter()
        kept, smallest = self.start(derive_seed(seed, "restart", 0)), float("inf")
        for number in range(restarts):
            variables = self.start(derive_seed(seed, "restart", number))
            objective = attempt(variables)
            if objective < smallest:  # NaN is not
                kept, smallest = variables, objective
            if smallest <= good_enough:
                break
        return Reconstruction(
            images=kept.images.detach().clamp(*self.values),
            target=self.target.decided(kept.logits.detach()),
            objective=smallest,
            seconds=time.perf_counter() - began,
        )


def squared_distance(guess: Gradient, seen: Gradient) -> Tensor:
    """Return `||g - g*||^2 / ||g*||^2`; relative, so that tolerances do not depend on the net."""
    differences = torch.stack([(guess[n] - seen[n]).square().sum() for n in seen])
    return differences.sum() / _squared_norm(seen)


def cosine_distance(guess: Gradient, seen: Gradient) -> Tensor:
    """Return `1 - <g, g*> / (||g|| ||g*||)` over all parameters together."""
    product = torch.stack([(guess[n] * seen[n]).sum() for n in seen]).sum()
    # A gradient of zero has no direction: the distance is then 1.
    smallest = torch.finfo(product.dtype).tiny
    norms = _squared_norm(guess).clamp(min=smallest).sqrt() * _squared_norm(seen).sqrt()
    return 1 - product / norms


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels of (B, C, H, W), both ways."""
    across = (images[..., 1:] - images[..., :-1]).abs().mean()
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    return across + down


def _squared_norm(gradient: Gradient) -> Tensor:
    return torch.stack([value.square().sum() for value in gradient.values()]).sum()
