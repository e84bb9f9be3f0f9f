"""What an attacker reaches who has seen nothing: the floor under every attack."""

import torch
from torch import Tensor

from lightning_fl.privacy.gradients import Gradient


def random_guess(
    shape: tuple[int, ...], *, seed: int, values: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Images of independent, uniform pixels."""
    low, high = values
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator)


def flat_guess(shape: tuple[int, ...], *, values: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Images of the middle grey: they score better than noise, and show nothing either."""
    return torch.full(shape, sum(values) / 2)


def noise_gradient(gradient: Gradient, *, seed: int) -> Gradient:
    """A Gaussian gradient with the size of another one, tensor by tensor, and nothing else of it.

    An attack on it has the regularisation and the range of values, but no information.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _noise_like(value, generator) for name, value in gradient.items()}


def _noise_like(value: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, generator=generator).to(value)
    scale: Tensor = value.norm() / noise.norm()
    return noise * scale
