"""Fine-tuning on the site's own training images, with snapshots along the way."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fitted_layers import HoldOthers, fitted_entries
from lightning_fl.personalisation.snapshots import Snapshots
from lightning_fl.personalisation.workbench import Workbench

Schedule = Literal["constant", "cosine"]


class FineTune(Candidate):
    """Take steps of the task's optimiser from the start model, kept after given numbers of them.

    There is one fit, of as many steps as the largest number; every other number is a snapshot of
    it. The steps are plain ones whatever the algorithm of the run.

    With `average` a snapshot after s steps is replaced by the mean of the weights after steps
    floor(s / 2) + 1 to s, as in stochastic weight averaging (Izmailov et al. 2018, arXiv
    1803.05407), and BatchNorm is re-estimated on the training images, for the statistics of a
    mean of weights are not the mean of statistics; not so where the run freezes BatchNorm.

    Args:
        steps: numbers of optimiser steps to choose from.
        lr: learning rate, null for the task's own. The task's schedulers are left out.
        layers: what is trained: "all", "head" (the layer segmentation_head or, in a net without
            one, the last layer with weights), "norm" (every normalising layer), or a list of
            names and patterns as for an algorithm's `personal`. All else stays as it came,
            running statistics too.
        average: use the mean of the second half of each path.
        schedule: of the rate: constant, or cosine, falling to 0 at the largest number of steps,
            rate(t) = lr (1 + cos(pi t / T)) / 2.
        name: how the names of its variants begin; null makes one from the settings.

    Raises:
        ConfigError: `steps` or `lr` cannot work.
    """

    def __init__(
        self,
        steps: Sequence[int] = (10, 25, 50, 100),
        lr: float | None = 1e-3,
        *,
        layers: str | Sequence[str] = "all",
        average: bool = False,
        schedule: Schedule = "constant",
        name: str | None = None,
    ) -> None:
        if not steps or min(steps) < 1:
            raise ConfigError(
                f"Expected FineTune's `steps` to be numbers from 1 on, but got {list(steps)}. The "
                "model as it came is always a candidate."
            )
        check_rate("FineTune", lr)
        if isinstance(layers, str) and layers not in ("all", "head", "norm"):
            raise ConfigError(
                f"Expected FineTune's `layers` to be all, head, norm or a list of layers, but got "
                f"{layers!r}. Write [{layers!r}]."
            )
        self.steps = sorted(set(steps))
        self.lr = lr
        self.layers = layers
        self.average = average
        self.schedule = schedule
        self.label = name or _label(layers, average, schedule)

    def check(self, module: pl.LightningModule, before: Sequence[Candidate]) -> None:
        """Refuse layers that the module does not have."""
        fitted_entries(module, self.layers)

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant for each number of steps, in ascending order."""
        last = self.steps[-1]
        snapshots = Snapshots(self.steps, average=self.average)
        callbacks: list[pl.Callback] = [snapshots, RateSchedule(self.lr, self.schedule, last)]
        if self.layers != "all":
            callbacks.append(HoldOthers(fitted_entries(bench.start, self.layers)))
        bench.fit(copy.deepcopy(bench.start), last, "personalise", callbacks)
        modules = {step: bench.with_state(state) for step, state in snapshots.states.items()}
        if self.layers == "all":
            bench.finetuned.setdefault(last, modules[last])
        if self.average:
            modules = {step: bench.with_averaged(mean) for step, mean in snapshots.means.items()}
        return [
            Variant(f"{self.label}@{step}", modules[step], step, path=self.label)
            for step in self.steps
        ]


class RateSchedule(pl.Callback):
    """Set the learning rate of every step and let no scheduler of the task change it.

    `lr` is the first rate of every parameter group, or None for each group's own. The schedule is
    constant, or a cosine that falls to 0 after `steps` steps.
    """

    def __init__(self, lr: float | None, schedule: Schedule, steps: int) -> None:
        self.lr = lr
        self.schedule = schedule
        self.steps = steps
        self._rates: list[float] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the schedulers out and remember the rates."""
        trainer.strategy.lr_scheduler_configs = []
        # a scheduler has changed `lr` already when it was made, e.g. to begin its warm-up
        rates = [float(group.get("initial_lr", group["lr"])) for group in _groups(trainer)]
        self._rates = rates if self.lr is None else [self.lr] * len(rates)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the rate of the coming step."""
        factor = 1.0
        if self.schedule == "cosine":
            factor = (1 + math.cos(math.pi * trainer.global_step / self.steps)) / 2
        for group, rate in zip(_groups(trainer), self._rates, strict=True):
            group["lr"] = rate * factor


def _groups(trainer: pl.Trainer) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def check_rate(candidate: str, lr: float | None) -> None:
    """Refuse a learning rate that is not positive."""
    if lr is not None and not lr > 0:
        raise ConfigError(f"Expected {candidate}'s `lr` to be positive or null, but got {lr}.")


def last_path(variants: Sequence[Variant]) -> list[Variant]:
    """Return the snapshots of the last fine-tuning, in ascending order of steps."""
    paths = [variant.path for variant in variants if variant.path]
    return [variant for variant in variants if paths and variant.path == paths[-1]]


def require_path(candidate: str, before: Sequence[Candidate]) -> FineTune:
    """Return the last fine-tuning among some candidates; refuse a list without one."""
    tunings = [candidate for candidate in before if isinstance(candidate, FineTune)]
    if not tunings:
        raise ConfigError(
            f"{candidate} builds on a fine-tuning, but no FineTune stands before it in "
            "`personalisation.candidates`. Put one there."
        )
    return tunings[-1]


def _label(layers: str | Sequence[str], average: bool, schedule: Schedule) -> str:
    words = [] if layers == "all" else [layers] if isinstance(layers, str) else [*layers]
    words += ["average"] * average + ["cosine"] * (schedule == "cosine")
    return f"finetune[{', '.join(words)}]" if words else "finetune"
