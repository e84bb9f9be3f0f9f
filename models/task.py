"""What every task around a net has in common: its optimiser, its outputs, the loss it logs."""

from collections.abc import Callable, Iterable
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_fl.errors import ConfigError
from models.outputs import OutputMap, output_maps

Optimizing = Callable[[Iterable[nn.Parameter]], Optimizer]
Scheduling = Callable[[Optimizer], LRScheduler]


class NetTask(pl.LightningModule):
    """A net with logits (B, classes, ...), and how it is optimised.

    Args:
        net: maps images to logits.
        classes: channels of the logits; 1 is binary (sigmoid), more are classes (softmax).
        loss: called with logits and truth, gives a scalar.
        optimizer: makes the optimiser; None is torch.optim.Adam with a learning rate of 1e-3.
        lr_scheduler: makes its scheduler, if any.
        scheduler_interval: whether the scheduler steps after each training step or each epoch.

    Raises:
        ConfigError: `classes` is out of its range.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        loss: nn.Module,
        optimizer: Optimizing | None,
        lr_scheduler: Scheduling | None,
        scheduler_interval: Literal["step", "epoch"],
    ) -> None:
        super().__init__()
        if not 1 <= classes <= 256:
            raise ConfigError(f"Expected `classes` to be between 1 and 256, but got {classes}.")
        self.net = net
        self.classes = classes
        self.loss = loss
        # With Adam as the default itself, jsonargparse hands Adam's `weight_decay: 0` to an AdamW.
        self.optimizer = torch.optim.Adam if optimizer is None else optimizer
        self.lr_scheduler = lr_scheduler
        self.scheduler_interval = scheduler_interval

    def output_maps(self) -> tuple[OutputMap, OutputMap]:
        """From logits to probabilities and back, both of shape (B, classes, ...).

        Lets an ensemble average probabilities and still be a net that gives logits.
        """
        return output_maps(self.classes)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and, where there is one, its scheduler."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ConfigError(
                "`lr_scheduler` is ReduceLROnPlateau, which needs a validation score inside each "
                "fit, but validation happens between them. Use CosineAnnealingLR or OneCycleLR."
            )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def log_loss(self, name: str, loss: Tensor, samples: int) -> None:
        """Log the loss of a batch, to be averaged over an epoch by samples."""
        if self._trainer is None or self._trainer.state.stage is None:
            return  # called outside a fit, e.g. by an attack: there is nowhere to log to
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=samples)
