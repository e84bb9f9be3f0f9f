"""BatchNorm in a federation: found by module type; averaged, kept local, frozen, re-estimated."""

from collections import defaultdict
from typing import Literal

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

BatchNormPolicy = Literal["average", "local", "freeze"]
"""What happens to a run's BatchNorm layers.

average: weights and running statistics travel with every update and are averaged.
local: the whole layer (weights and statistics) stays at the site, as in FedBN (Li et al. 2021,
    arXiv 2102.07623).
freeze: the layer normalises with its running statistics, also while training, and never changes
    them; its weights train and travel. For nets that start from pretrained weights.

It is about BatchNorm alone. GroupNorm, LayerNorm, RMSNorm and InstanceNorm train and travel like
any other layer, and stay at the site where `personal` names them. They normalise each image by
itself and have no running statistics, except for InstanceNorm with `track_running_stats`, whose
statistics are averaged. A BatchNorm that another library froze for good (torchvision's
FrozenBatchNorm2d) has nothing to train and counts among these.
"""


def batch_norm_modules(module: nn.Module) -> dict[str, _BatchNorm]:
    """Every BatchNorm layer by name: BatchNorm1d/2d/3d, SyncBatchNorm, lazy and derived kinds."""
    return {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm)}


def batch_norm_entries(module: nn.Module) -> set[str]:
    """Names, as in `state_dict`, of everything that belongs to a BatchNorm layer.

    A layer that the module uses under several names is in its state under each of them.
    """
    return {
        f"{layer}.{entry}" if layer else entry
        for layer, norm in module.named_modules(remove_duplicate=False)
        if isinstance(norm, _BatchNorm)
        for entry in norm.state_dict()
    }


def norm_layers(module: nn.Module) -> dict[str, list[str]]:
    """Names of every normalising layer, by kind.

    Kinds are names of types; those of InstanceNorm add whether it keeps running statistics. Types
    of other libraries are known by "norm" in their names; there is nothing else to know them by.
    """
    found = defaultdict(list)
    for name, layer in module.named_modules():
        if _normalises(layer):
            found[_kind(layer)].append(name)
    return dict(found)


def describe_norm_layers(module: nn.Module) -> str:
    """The normalising layers in words: "GroupNorm (3, e.g. net.1)", or "none"."""
    layers = norm_layers(module)
    words = (f"{kind} ({len(names)}, e.g. {names[0]!r})" for kind, names in sorted(layers.items()))
    return ", ".join(words) or "none"


def _normalises(layer: nn.Module) -> bool:
    kind = type(layer)
    if kind.__module__.startswith("torch.nn.utils"):  # weight and spectral normalisation
        return False
    known = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
    leaf = next(layer.children(), None) is None
    return isinstance(layer, known) or (leaf and "norm" in kind.__name__.lower())


def _kind(layer: nn.Module) -> str:
    name = type(layer).__name__
    if isinstance(layer, _InstanceNorm):
        return f"{name} {'with' if layer.track_running_stats else 'without'} statistics"
    return name


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
