"""Guesses of an attacker who has seen nothing: the floor under every attack."""

import torch
from torch import Tensor


def random_guess(
    shape: tuple[int, ...], *, seed: int, values: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Draw images of independent, uniform pixels."""
    low, high = values
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator)


def flat_guess(shape: tuple[int, ...], *, values: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Return images of the middle grey, which score better than noise and show nothing either."""
    return torch.full(shape, sum(values) / 2)
