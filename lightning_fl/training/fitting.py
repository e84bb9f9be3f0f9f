"""Train and evaluate one site's model with Lightning, so that rounds follow on from each other."""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytorch_lightning as pl
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lightning_fl.errors import ConfigError
from lightning_fl.training.progress import CarryOn, Progress


@dataclass(frozen=True)
class TrainerOptions:
    """Say how a site trains in one round. Everything else about its Trainer is fixed.

    Args:
        local_steps: optimiser steps of a site in one round; give this or `local_epochs`.
        local_epochs: passes over a site's training data in one round.
        accelerator: "auto", "cpu", "gpu" or another that Lightning knows.
        device: number of the device where there are several.
        precision: Lightning's name of the arithmetic, e.g. "32-true", "16-mixed", "bf16-mixed".
        gradient_clip_val: largest gradient norm (or value), null for none.
        gradient_clip_algorithm: clip by "norm" or by "value".
        accumulate_grad_batches: batches for each optimiser step; the last step of a pass may have
            fewer, and its gradient is the mean over these.
        deterministic: let torch refuse operations that do not repeat bit for bit.
        curves: record losses, learning rates, gradient norm and speed of each round at each site.
            There are none with differential privacy or with hidden sample counts, and a hospital
            decides for itself.
    """

    local_steps: int | None = None
    local_epochs: int | None = None
    accelerator: str = "auto"
    device: int = 0
    precision: str = "32-true"
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    accumulate_grad_batches: int = 1
    deterministic: bool = False
    curves: bool = True

    def for_steps(self, steps: int) -> "TrainerOptions":
        """Return these options with a given number of optimiser steps."""
        return replace(self, local_steps=steps, local_epochs=None)

    def steps_of_round(self, batches: int) -> int:
        """Return the optimiser steps of a round at a site whose passes have so many batches."""
        a_pass = math.ceil(batches / self.accumulate_grad_batches)
        return self.local_steps or a_pass * (self.local_epochs or 0)

    def check(self) -> None:
        """Refuse values that cannot work."""
        if (self.local_steps is None) == (self.local_epochs is None):
            raise ConfigError(
                "Expected one of `trainer.local_steps` and `trainer.local_epochs`, but got "
                f"{self.local_steps} and {self.local_epochs}. Set the other to null."
            )
        for name in ("local_steps", "local_epochs", "accumulate_grad_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"Expected `trainer.{name}` to be at least 1, but got {value}.")


class CountGradients(pl.Callback):
    """Count Lightning's backward passes, of which an optimiser step may accumulate several."""

    def __init__(self) -> None:
        self.gradients = 0

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count this pass."""
        self.gradients += 1


class _FullGradients(pl.Callback):
    """Undo Lightning's division of the loss where a step has fewer batches than it divides by.

    Lightning divides each loss by `accumulate_grad_batches`, and steps at the end of a pass
    whatever has been accumulated. The gradient of a step is the mean over its own batches.
    """

    def __init__(self) -> None:
        self._batches = 0

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batches += 1

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        batches, self._batches = self._batches, 0
        if 0 < batches < trainer.accumulate_grad_batches:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(trainer.accumulate_grad_batches / batches)


def make_trainer(options: TrainerOptions, **more: Any) -> pl.Trainer:
    """Make a quiet Trainer on one device that writes nothing to disk."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="GPU available but not used")
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=1 if options.device == 0 else [options.device],
            precision=options.precision,  # type: ignore[arg-type]  # Lightning checks the name
            gradient_clip_val=options.gradient_clip_val,
            gradient_clip_algorithm=options.gradient_clip_algorithm,
            accumulate_grad_batches=options.accumulate_grad_batches,
            deterministic=options.deterministic,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **more,
        )


def fit(
    module: pl.LightningModule,
    loader: DataLoader[Any],
    callbacks: Sequence[pl.Callback],
    options: TrainerOptions,
    progress: Progress,
) -> tuple[Progress, dict[str, float]]:
    """Train a module in place for one round, going on from the progress of the last.

    The loader is passed over as often as the steps need.

    Returns:
        The new progress and what `training_step` logged, as Lightning's `callback_metrics`.
    """
    carry = CarryOn(progress)
    steps, epochs = options.local_steps, options.local_epochs
    trainer = make_trainer(
        options,
        max_steps=-1 if steps is None else progress.steps + steps,
        max_epochs=-1 if epochs is None else progress.epochs + epochs,
        limit_val_batches=0,
        callbacks=[_FullGradients(), *callbacks, carry],
    )
    carry.count_on(trainer, module)
    trainer.fit(module, train_dataloaders=loader)
    return carry.progress, {k: float(v) for k, v in trainer.callback_metrics.items()}


def evaluate(
    module: pl.LightningModule,
    loader: DataLoader[Any],
    split: Literal["val", "test"],
    options: TrainerOptions,
    *,
    batches: float = 1.0,
    callbacks: Sequence[pl.Callback] = (),
) -> dict[str, float]:
    """Return what `validation_step` (or, for "test", `test_step`) logs over a loader.

    The module is not changed. `batches` is a number of the loader's batches, or 1.0 for all.

    Returns:
        Metrics by name, without the prefix of the split: "val/dice" and "val_dice" become "dice".

    Raises:
        ConfigError: the module logs nothing there.
    """
    limits = {f"limit_{name}_batches": batches for name in ("val", "test")}
    trainer = make_trainer(options, callbacks=[*callbacks], **limits)
    run = trainer.validate if split == "val" else trainer.test
    [metrics] = run(module, loader, verbose=False) or [{}]
    if not metrics:
        raise ConfigError(
            f"{type(module).__name__} logs no metric in its {split} step. Log at least the one "
            "that `evaluation.metric` names."
        )
    return {re.sub(f"^{split}[/_]", "", k): float(v) for k, v in sorted(metrics.items())}
