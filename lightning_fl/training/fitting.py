"""Train and evaluate one site's model with Lightning, so that rounds follow on from each other."""

import copy
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lightning_fl.errors import ConfigError


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
        accumulate_grad_batches: batches for each optimiser step.
        deterministic: let torch refuse operations that do not repeat bit for bit.
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

    def for_steps(self, steps: int) -> "TrainerOptions":
        """Return these options with a given number of optimiser steps."""
        return replace(self, local_steps=steps, local_epochs=None)

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


@dataclass(frozen=True)
class Progress:
    """Carry how far a site's training has come from one Trainer to the next.

    Optimisers are not carried: each round begins with new ones, because the moments of the old
    belong to weights that a mean has replaced.

    Attributes:
        epochs: passes over the data that have been finished.
        steps: optimiser steps that have been made.
        schedulers: `state_dict` of each learning-rate scheduler.
        precision: state of AMP's GradScaler, where there is one.
    """

    epochs: int = 0
    steps: int = 0
    schedulers: tuple[dict[str, Any], ...] = ()
    precision: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the progress as text, for a site's private state."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """Read the text that `to_json` made."""
        values = json.loads(text)
        return cls(**values | {"schedulers": tuple(values["schedulers"])})


class _CarryOn(pl.Callback):
    """Give a new Trainer's schedulers the state of the last one's."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        configs = trainer.lr_scheduler_configs
        for config, state in zip(configs, self.progress.schedulers, strict=False):
            config.scheduler.load_state_dict(copy.deepcopy(state))
            rates = config.scheduler.get_last_lr()
            for group, rate in zip(config.scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        if self.progress.precision:
            trainer.precision_plugin.load_state_dict(self.progress.precision)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress = Progress(
            trainer.current_epoch,
            trainer.global_step,
            tuple(config.scheduler.state_dict() for config in trainer.lr_scheduler_configs),
            trainer.precision_plugin.state_dict(),
        )


class CountGradients(pl.Callback):
    """Count Lightning's backward passes, of which an optimiser step may accumulate several."""

    def __init__(self) -> None:
        self.gradients = 0

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count this pass."""
        self.gradients += 1


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
    carry = _CarryOn(progress)
    steps, epochs = options.local_steps, options.local_epochs
    trainer = make_trainer(
        options,
        max_steps=-1 if steps is None else progress.steps + steps,
        max_epochs=-1 if epochs is None else progress.epochs + epochs,
        limit_val_batches=0,
        callbacks=[*callbacks, carry],
    )
    _count_on(trainer, progress)
    trainer.fit(module, train_dataloaders=loader)
    return carry.progress, {k: float(v) for k, v in trainer.callback_metrics.items()}


def _count_on(trainer: pl.Trainer, progress: Progress) -> None:
    """Let `current_epoch` and `global_step` begin where the last Trainer stopped."""
    epochs = trainer.fit_loop.epoch_progress
    done = dict.fromkeys(("ready", "started", "processed", "completed"), progress.epochs)
    for counter in (epochs.current, epochs.total):
        vars(counter).update(done)
    step = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
    step.total.ready = step.total.completed = progress.steps


def evaluate(
    module: pl.LightningModule,
    loader: DataLoader[Any],
    split: Literal["val", "test"],
    options: TrainerOptions,
    *,
    batches: float = 1.0,
) -> dict[str, float]:
    """Return what `validation_step` (or, for "test", `test_step`) logs over a loader.

    The module is not changed. `batches` is a number of the loader's batches, or 1.0 for all.

    Returns:
        Metrics by name, without the prefix of the split: "val/dice" and "val_dice" become "dice".

    Raises:
        ConfigError: the module logs nothing there.
    """
    trainer = make_trainer(options, limit_val_batches=batches, limit_test_batches=batches)
    run = trainer.validate if split == "val" else trainer.test
    [metrics] = run(module, loader, verbose=False) or [{}]
    if not metrics:
        raise ConfigError(
            f"{type(module).__name__} logs no metric in its {split} step. Log at least the one "
            "that `evaluation.metric` names."
        )
    return {re.sub(f"^{split}[/_]", "", k): float(v) for k, v in sorted(metrics.items())}
