"""Inverting Gradients (Geiping, Bauermeister, Dröge and Moeller 2020, arXiv 2003.14053)."""

from functools import partial

import torch
from torch import Tensor

from lightning_fl.audit.attacks.matching import (
    Matching,
    Reconstruction,
    Variables,
    cosine_distance,
    total_variation,
)
from lightning_fl.errors import ConfigError


def invert_gradient(
    problem: Matching,
    *,
    iterations: int = 500,
    lr: float = 0.1,
    tv: float = 1e-3,
    restarts: int = 1,
    seed: int = 0,
) -> Reconstruction:
    """Minimise `1 - cos(g(x, y), g*) + tv TV(x)` with the sign of the gradient and Adam.

    It looks at the direction alone, so it also works on updates whose scale is lost (Adam,
    clipping) and on nets with ReLU. The images are clamped to their range after each step. The step
    falls to a tenth after 3/8, 5/8 and 7/8 of the iterations.

    Args:
        problem: what was seen and what is known.
        iterations: of Adam.
        lr: first step, in units of the range of values.
        tv: weight of the total variation.
        restarts: starts; the one with the smallest objective is kept.
        seed: of the starts.

    Raises:
        ConfigError: a setting is out of its range.
    """
    if iterations < 1:
        raise ConfigError(f"Expected `iterations` to be at least 1, but got {iterations}.")
    if lr <= 0:
        raise ConfigError(f"Expected `lr` to be positive, but got {lr}.")
    if tv < 0:
        raise ConfigError(f"Expected `tv` to be at least 0, but got {tv}.")
    attempt = partial(_minimise, problem, iterations, lr, tv)
    return problem.best(attempt, restarts=restarts, seed=seed, good_enough=0.0)


def _minimise(
    problem: Matching, iterations: int, lr: float, tv: float, variables: Variables
) -> float:
    """Move the variables in place, and return the objective that they reach."""
    low, high = problem.values
    images = {"params": [variables.images], "lr": lr * (high - low)}
    optimizer = torch.optim.Adam([images, {"params": [variables.logits], "lr": lr}])
    milestones = [iterations * eighths // 8 for eighths in (3, 5, 7)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for _ in range(iterations):
        optimizer.zero_grad()
        _objective(problem, variables, tv).backward()  # type: ignore[no-untyped-call]
        for tensor in variables.tensors():
            if tensor.grad is not None:
                tensor.grad.sign_()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            variables.images.clamp_(low, high)
    return float(_objective(problem, variables, tv).detach())


def _objective(problem: Matching, variables: Variables, tv: float) -> Tensor:
    low, high = problem.values
    smooth = total_variation(variables.images) / (high - low)
    return problem.objective(variables, cosine_distance) + tv * smooth
