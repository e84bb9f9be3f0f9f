"""BatchNorm in a federation: found by module type; averaged, kept local, frozen, re-estimated."""

from typing import Literal

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormPolicy = Literal["average", "local", "freeze"]
"""What happens to a run's BatchNorm layers.

average: weights and running statistics travel with every update and are averaged.
local: the whole layer (weights and statistics) stays at the site, as in FedBN (Li et al. 2021,
    arXiv 2102.07623).
freeze: the layer normalises with its running statistics, also while training, and never changes
    them; its weights train and travel. For nets that start from pretrained weights.
"""


def batch_norm_modules(module: nn.Module) -> dict[str, _BatchNorm]:
    """Every BatchNorm layer by name: BatchNorm1d/2d/3d, SyncBatchNorm, lazy and derived kinds."""
    return {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm)}


def batch_norm_entries(module: nn.Module) -> set[str]:
    """Names, as in `state_dict`, of everything that belongs to a BatchNorm layer."""
    return {
        f"{layer}.{entry}" if layer else entry
        for layer, norm in batch_norm_modules(module).items()
        for entry in norm.state_dict()
    }


def freeze_batch_norm(module: nn.Module) -> None:
    """Let BatchNorm layers use, and not change, their running statistics (until `train()`)."""
    for norm in batch_norm_modules(module).values():
        norm.eval()


class ReestimateBatchNorm(pl.Callback):
    """Makes a `Trainer.validate` run re-estimate BatchNorm's running statistics; no gradient.

    The statistics become the plain mean over the batches that pass by, which should be training
    images as they are at inference, in shuffled order. Dropout and all else stay in eval mode.
    """

    def __init__(self) -> None:
        self._momentum: dict[str, float | None] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the statistics and start a cumulative mean (`momentum = None`)."""
        for name, norm in batch_norm_modules(pl_module).items():
            self._momentum[name] = norm.momentum
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the layers' own momentum and mode back."""
        for name, norm in batch_norm_modules(pl_module).items():
            norm.momentum = self._momentum[name]
            norm.eval()
