"""The loss in what a LightningModule's `training_step` returns."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.errors import ConfigError


def loss_in(output: Any) -> Any:  # a training step may return anything
    """Return the entry `loss` of a mapping, or else the output itself."""
    return output["loss"] if isinstance(output, Mapping) else output


def step_loss(module: pl.LightningModule, output: Any, user: str) -> Tensor:
    """Return the loss in the output of a module's `training_step`.

    Raises:
        ConfigError: there is none; the error says what needs one by `user`, e.g. "Ditto needs".
    """
    loss = loss_in(output)
    if not isinstance(loss, Tensor):
        raise ConfigError(
            f"{type(module).__name__}.training_step gave {type(output).__name__} instead of a "
            f"loss; {user} a loss for every batch."
        )
    return loss
