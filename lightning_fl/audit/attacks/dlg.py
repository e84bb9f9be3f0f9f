"""DLG, deep leakage from gradients (Zhu, Liu and Han 2019, arXiv 1906.08935)."""

from functools import partial

import torch

from lightning_fl.audit.attacks.matching import (
    Matching,
    Reconstruction,
    Variables,
    squared_distance,
)
from lightning_fl.errors import ConfigError

GOOD_ENOUGH = 1e-6
"""Relative squared distance at which no other start is tried."""


def dlg(
    problem: Matching, *, iterations: int = 300, restarts: int = 3, seed: int = 0
) -> Reconstruction:
    """Minimise `||g(x, y) - g*||^2` with L-BFGS, over images and hidden labels or masks.

    Needs a net that is smooth (sigmoid or tanh, stride rather than pooling); with ReLU use
    `invert_gradient`.

    Args:
        problem: what was seen and what is known.
        iterations: of L-BFGS, in all; a line search may add a few passes.
        restarts: starts at most; the one with the smallest objective is kept.
        seed: of the starts.

    Raises:
        ConfigError: a setting is out of its range.
    """
    if iterations < 1:
        raise ConfigError(f"Expected `iterations` to be at least 1, but got {iterations}.")
    attempt = partial(_minimise, problem, iterations)
    return problem.best(attempt, restarts=restarts, seed=seed, good_enough=GOOD_ENOUGH)


def _minimise(problem: Matching, iterations: int, variables: Variables) -> float:
    """Move the variables in place, and return the objective that they reach."""
    left = iterations
    while left > 0:
        done = _descend(problem, variables, left)
        if done <= 1:
            break
        left -= done
    return float(problem.objective(variables, squared_distance).detach())


def _descend(problem: Matching, variables: Variables, iterations: int) -> int:
    """Run L-BFGS until it stops, which may be early, and return the iterations it made.

    Rounding in float32 ends a line search now and then; without the history it often goes on.
    """
    optimizer = torch.optim.LBFGS(
        variables.tensors(),
        max_iter=iterations,
        max_eval=iterations * 5 // 4 + 1,
        tolerance_grad=0,  # torch's tolerances are absolute and stop long before float32 does
        tolerance_change=0,
        history_size=100,
        line_search_fn="strong_wolfe",  # without it, a step that is too long ends at infinity
    )

    def closure() -> float:
        optimizer.zero_grad()
        objective = problem.objective(variables, squared_distance)
        objective.backward()  # type: ignore[no-untyped-call]
        return float(objective.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return int(optimizer.state[variables.images]["n_iter"])
