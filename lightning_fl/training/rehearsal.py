"""One training and one validation batch before round 1.

What can be wrong with settings and files so shows in seconds rather than in the night.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lightning_fl.errors import ConfigError, NonFiniteError
from lightning_fl.training.fitting import TrainerOptions, evaluate, fit
from lightning_fl.training.progress import Progress
from lightning_fl.training.state_checks import check_unchanged, is_finite, shapes


class _Schedulers(pl.Callback):
    """Remember the state of every scheduler that acts after steps."""

    def __init__(self) -> None:
        self.by_step: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        configs = trainer.lr_scheduler_configs
        self.by_step = [c.scheduler.state_dict() for c in configs if c.interval == "step"]

    def check_length(self, steps: int) -> None:
        """Refuse a scheduler that ends before the run does."""
        for length in (n for state in self.by_step for n in _lengths(state)):
            if length < steps:
                raise ConfigError(
                    f"A learning-rate scheduler has `total_steps` {length}, but a site makes up to "
                    f"{steps} optimiser steps in this run. Set `total_steps` to {steps}."
                )


def _lengths(state: Mapping[str, Any]) -> Iterator[int]:
    """Yield the lengths of a scheduler and of those that it is made of."""
    if state.get("total_steps") is not None:
        yield int(state["total_steps"])
    for part in state.get("_schedulers", ()):
        yield from _lengths(part)


def rehearse(
    module: pl.LightningModule,
    train: DataLoader[Any],
    val: DataLoader[Any],
    callbacks: Sequence[pl.Callback],
    options: TrainerOptions,
    rounds: int,
    scoring: Sequence[pl.Callback] = (),
) -> set[str]:
    """Make one step and validate one batch, as a round would.

    The module is a copy that may be spoiled. `scoring` takes part in the validation. A task may
    have a method `check_batch(batch)`, which is called with one batch of each split and raises an
    error for one that does not fit.

    Returns:
        Names of the metrics that the module logs in validation and in test.

    Raises:
        ConfigError: BatchNorm is left with a single value for each channel, a scheduler ends
            before the last of the `rounds`, or the net changes its entries.
        NonFiniteError: the first loss is NaN or infinite.
    """
    if check := getattr(module, "check_batch", None):
        for loader in (train, val):
            check(next(iter(loader)))
    before = shapes(module)
    schedulers = _Schedulers()
    try:
        progress, logged = fit(
            module, train, [schedulers, *callbacks], options.for_steps(1), Progress()
        )
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"BatchNorm cannot train on a single value ({error}). Raise `batch_size` or the image "
            "size, or give the site more training images."
        ) from error
    progress.to_json()  # raises an error for a scheduler whose state cannot be kept
    schedulers.check_length(rounds * options.steps_of_round(len(train)))
    if not is_finite(module) or any(map(math.isnan, logged.values())):
        raise NonFiniteError(f"the very first training step gave NaN or infinity: {logged}")
    scores = evaluate(module, val, "val", options, batches=1, callbacks=scoring)
    # the test step is tried on validation images; test images are for the end alone
    scores_of_test = evaluate(module, val, "test", options, batches=1, callbacks=scoring)
    check_unchanged(before, module)
    return set(scores) & set(scores_of_test)
