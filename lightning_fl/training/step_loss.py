"""The loss in whatever a LightningModule's `training_step` gives back."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.errors import ConfigError


def loss_in(output: Any) -> Any:  # a training step may return anything
    """The entry `loss` of a mapping, or else the output itself."""
    return output["loss"] if isinstance(output, Mapping) else output


def step_loss(module: pl.LightningModule, output: Any, user: str) -> Tensor:
    """The loss that a step gave.

    Args:
        module: whose `training_step` it was.
        output: what it gave.
        user: who cannot go on without one, for the error, e.g. "SampleLevelDP needs".

    Raises:
        ConfigError: it gave none.
    """
    loss = loss_in(output)
    if not isinstance(loss, Tensor):
        raise ConfigError(
            f"{type(module).__name__}.training_step gave {type(output).__name__} instead of a "
            f"loss; {user} a loss for every batch."
        )
    return loss
