"""How a site makes the finished global model its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class Evaluation:
    """How models are compared and personalised.

    Args:
        metric: what the best round and the number of personal steps are chosen by, on validation
            data; as the task logs it, without "val/".
        lower_is_better: whether the metric is a loss.
        every: evaluate the global model after every so many rounds (and after the last).
        personal_steps: numbers of fine-tuning steps to choose from at each site; 0, the model as
            it came, is always among them.
        personal_lr: learning rate of these steps, null for the task's own. The optimiser is the
            task's; schedulers are left out.
        gallery: test images of each site to show in the report, 0 for none.
    """

    metric: str = "dice"
    lower_is_better: bool = False
    every: int = 1
    personal_steps: Sequence[int] = (10, 20, 50)
    personal_lr: float | None = 1e-3
    gallery: int = 4

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigError: names the value and the remedy.
        """
        if self.every < 1:
            raise ConfigError(
                f"Expected `evaluation.every` to be at least 1, but got {self.every}."
            )
        if any(step < 0 for step in self.personal_steps):
            raise ConfigError(
                "Expected `evaluation.personal_steps` to be 0 or more, but got "
                f"{list(self.personal_steps)}."
            )
        if self.personal_lr is not None and not self.personal_lr > 0:
            raise ConfigError(
                "Expected `evaluation.personal_lr` to be positive or null, but got "
                f"{self.personal_lr}."
            )

    def is_better(self, value: float, than: float) -> bool:
        """Whether a score beats another; NaN beats nothing, and everything beats NaN."""
        if value != value or than != than:
            return value == value
        return value < than if self.lower_is_better else value > than


class FineTune(pl.Callback):
    """Plain fine-tuning that remembers the weights after given numbers of steps.

    Args:
        steps: when to take a snapshot.
        learning_rate: of every parameter group, or None for the task's own.

    Attributes:
        snapshots: `state_dict` on the CPU by number of steps.
    """

    def __init__(self, steps: Sequence[int], learning_rate: float | None) -> None:
        self.steps = frozenset(steps)
        self.learning_rate = learning_rate
        self.snapshots: dict[int, dict[str, Tensor]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the rate and let no scheduler change it."""
        if self.learning_rate is not None:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate
        trainer.strategy.lr_scheduler_configs = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Take a snapshot if it is time."""
        step = trainer.global_step
        if step in self.steps and step not in self.snapshots:
            state = pl_module.state_dict()
            self.snapshots[step] = {k: torch.clone(v.detach()).cpu() for k, v in state.items()}
