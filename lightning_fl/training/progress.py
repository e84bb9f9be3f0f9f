"""Carry a site's training from one Trainer to the next: counts, schedulers, AMP's scale."""

import copy
from dataclasses import dataclass, field, fields
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import LRSchedulerConfig

from lightning_fl.errors import ConfigError
from lightning_fl.training import typed_json


@dataclass(frozen=True)
class Progress:
    """Carry how far a site's training has come from one Trainer to the next.

    Optimisers are not carried: each round begins with new ones, because the moments of the old
    belong to weights that a mean has replaced.

    Attributes:
        epochs: passes over the data that have been finished inside a round.
        steps: optimiser steps that have been made.
        batches: batches that have been trained on.
        schedulers: `state_dict` of each learning-rate scheduler.
        groups: settings of the parameter groups of each optimiser, such as `lr` and `momentum`,
            which a scheduler may set.
        precision: state of AMP's GradScaler, where there is one.
    """

    epochs: int = 0
    steps: int = 0
    batches: int = 0
    schedulers: tuple[dict[str, Any], ...] = ()
    groups: tuple[list[dict[str, Any]], ...] = ()
    precision: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the progress as text, for a site's private state.

        Raises:
            ConfigError: a scheduler's state holds what cannot be written.
        """
        return typed_json.dumps({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """Read the text that `to_json` made."""
        values = typed_json.loads(text)  # version 0.1.0 wrote the tuple as a list
        return cls(**values | {"schedulers": tuple(values["schedulers"])})


class CarryOn(pl.Callback):
    """Let a new Trainer go on where the last one stopped, and step its schedulers.

    Lightning counts the batches of a pass for schedulers, and begins again in each fit. Here
    counting goes on over rounds: a scheduler by step acts after every `frequency` optimiser steps,
    and a scheduler by epoch whenever the site has trained on as many batches as `frequency` passes
    over its data hold. A round may be shorter or longer than a pass.

    Args:
        progress: of the last Trainer; replaced at the end of the fit.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._by: list[str] = []
        self._batches = progress.batches
        self._steps = progress.steps

    def count_on(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Let `current_epoch` and `global_step` begin where the last Trainer stopped."""
        epochs = trainer.fit_loop.epoch_progress
        done = dict.fromkeys(("ready", "started", "processed", "completed"), self.progress.epochs)
        for counter in (epochs.current, epochs.total):
            vars(counter).update(done)
        loop = trainer.fit_loop.epoch_loop
        step = loop.automatic_optimization.optim_progress.optimizer.step
        if not module.automatic_optimization:
            step = loop.manual_optimization.optim_step_progress
        step.total.ready = step.total.completed = self.progress.steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore schedulers and the scale of AMP.

        Raises:
            ConfigError: the module optimises by hand with several optimisers.
        """
        if not pl_module.automatic_optimization and len(trainer.optimizers) > 1:
            raise ConfigError(
                f"{type(pl_module).__name__} optimises by hand with {len(trainer.optimizers)} "
                "optimisers, but steps of a round are counted for one. Use one optimiser with "
                "several parameter groups, or automatic optimisation."
            )
        configs = trainer.lr_scheduler_configs
        for config, state in zip(configs, self.progress.schedulers, strict=False):
            config.scheduler.load_state_dict(copy.deepcopy(state))
            rates = config.scheduler.get_last_lr()  # version 0.1.0 kept no groups
            for group, rate in zip(config.scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for optimizer, groups in zip(trainer.optimizers, self.progress.groups, strict=False):
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update(copy.deepcopy(settings))
        if self.progress.precision:
            trainer.precision_plugin.load_state_dict(self.progress.precision)
        self._by = [config.interval for config in configs]
        if pl_module.automatic_optimization:
            for config in configs:
                config.interval = "over rounds"  # Lightning steps those of "step" and "epoch"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Step the schedulers that are due."""
        self._batches += 1
        passes, rest = divmod(self._batches, trainer.num_training_batches)
        due = {"epoch": passes if rest == 0 else 0}
        due["step"] = trainer.global_step if trainer.global_step > self._steps else 0
        self._steps = trainer.global_step
        if not pl_module.automatic_optimization:  # such a module steps them itself
            return
        for config, by in zip(trainer.lr_scheduler_configs, self._by, strict=True):
            if due[by] and due[by] % config.frequency == 0:
                metric = _watched(trainer, config) if config.reduce_on_plateau else None
                if metric is not None or not config.reduce_on_plateau:
                    pl_module.lr_scheduler_step(config.scheduler, metric)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep where this Trainer has stopped."""
        self.progress = Progress(
            trainer.current_epoch,
            trainer.global_step,
            self._batches,
            tuple(config.scheduler.state_dict() for config in trainer.lr_scheduler_configs),
            tuple(
                [{k: v for k, v in group.items() if k != "params"} for group in o.param_groups]
                for o in trainer.optimizers
            ),
            trainer.precision_plugin.state_dict(),
        )


def _watched(trainer: pl.Trainer, config: LRSchedulerConfig) -> Any:
    """Return the value of the metric that a scheduler watches, None where it may be missing.

    Raises:
        ConfigError: it must not be missing, but training does not log it.
    """
    value = trainer.callback_metrics.get(str(config.monitor))
    if value is None and config.strict:
        raise ConfigError(
            f"{type(config.scheduler).__name__} watches {config.monitor!r}, but `training_step` "
            f"logs {sorted(trainer.callback_metrics)} at each step, and nothing is validated "
            "inside a round. Watch one of these, or use a scheduler that watches nothing."
        )
    return value
