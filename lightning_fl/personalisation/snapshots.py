"""Weights along one fit: after given steps, or their mean over the second half of each path."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_fl.training.layout import State


class Snapshots(pl.Callback):
    """Remember a module's state after given numbers of optimiser steps.

    Attributes:
        states: `state_dict` on the CPU by number of steps.
        means: mean over the second half of the way, by number of steps; empty without `average`.
    """

    def __init__(self, steps: Sequence[int], *, average: bool = False) -> None:
        self.steps = frozenset(steps)
        self.average = average
        self.states: dict[int, State] = {}
        self.means: dict[int, State] = {}
        self._last = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Look at the weights if an optimiser step was made."""
        step = trainer.global_step
        if step == self._last:  # gradients were accumulated, or a step was skipped
            return
        self._last = step
        state = {name: value.detach() for name, value in pl_module.state_dict().items()}
        if step in self.steps:
            self.states[step] = {k: torch.clone(v).cpu() for k, v in state.items()}
        for last in self.steps if self.average else ():
            if last // 2 < step <= last:
                self._add(last, step - last // 2, state)

    def _add(self, last: int, count: int, state: State) -> None:
        """Take the `count`-th state into a running mean; integers keep the newest value."""
        mean = self.means.setdefault(last, {})
        for name, value in state.items():
            if count == 1 or not value.is_floating_point():
                mean[name] = torch.clone(value).cpu()
            else:
                mean[name] += (value.cpu() - mean[name]) / count
