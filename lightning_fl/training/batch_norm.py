"""BatchNorm in a federation: found by module type; averaged, kept local, frozen, re-estimated."""

from collections import defaultdict
from typing import Any, Literal

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.data import DataLoader

from lightning_fl.training.fitting import TrainerOptions, make_trainer
from lightning_fl.training.personal_layers import entries_of

BatchNormPolicy = Literal["average", "local", "freeze"]
"""What happens to a run's BatchNorm layers.

average: weights and running statistics travel with every update and are averaged.
local: the whole layer (weights and statistics) stays at the site, as in FedBN (Li et al. 2021,
    arXiv 2102.07623).
freeze: the layer normalises with its running statistics, also while training, and never changes
    them; its weights train and travel. For nets that start from pretrained weights.

It is about BatchNorm alone. GroupNorm, LayerNorm, RMSNorm and InstanceNorm normalise each image by
itself; they train and travel like any layer that `personal` does not name. InstanceNorm with
`track_running_stats` has statistics, which are averaged. A BatchNorm that another library froze for
good (torchvision's FrozenBatchNorm2d) has nothing to train and counts among these.
"""


def batch_norm_modules(module: nn.Module) -> dict[str, _BatchNorm]:
    """Find every BatchNorm layer, by name: 1d, 2d, 3d, SyncBatchNorm, lazy and derived kinds.

    The type decides. A search by name would miss layers whose names do not tell their kind.
    """
    return {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm)}


def batch_norm_entries(module: nn.Module) -> set[str]:
    """Name, as in `state_dict`, everything that belongs to a BatchNorm layer.

    A layer that the module uses under several names is in its state under each of them.
    """
    layers = module.named_modules(remove_duplicate=False)
    return entries_of(module, [name for name, layer in layers if isinstance(layer, _BatchNorm)])


def norm_layers(module: nn.Module) -> dict[str, list[str]]:
    """Name every normalising layer, by kind: the name of its type.

    For InstanceNorm the kind adds whether the layer keeps running statistics.
    """
    names_by_kind = defaultdict(list)
    for name, layer in module.named_modules():
        if kind := _norm_kind(layer):
            names_by_kind[kind].append(name)
    return dict(names_by_kind)


def describe_norm_layers(module: nn.Module) -> str:
    """Describe the normalising layers in words: "GroupNorm (3, e.g. net.1)", or "none"."""
    layers = norm_layers(module)
    words = (f"{kind} ({len(names)}, e.g. {names[0]!r})" for kind, names in sorted(layers.items()))
    return ", ".join(words) or "none"


def _norm_kind(layer: nn.Module) -> str:
    """Return the kind of a normalising layer, "" for any other layer."""
    kind = type(layer).__name__
    if isinstance(layer, _InstanceNorm):
        return f"{kind} {'with' if layer.track_running_stats else 'without'} statistics"
    if isinstance(layer, _BatchNorm | nn.GroupNorm | nn.LayerNorm):
        return kind
    if type(layer).__module__.startswith("torch.nn.utils"):  # weight and spectral normalisation
        return ""
    # layers of other libraries share no type, but "norm" in their names
    is_leaf = next(layer.children(), None) is None
    return kind if is_leaf and "norm" in kind.lower() else ""


def freeze_batch_norm(module: nn.Module) -> None:
    """Let BatchNorm layers use, and not change, their running statistics (until `train()`)."""
    for norm in batch_norm_modules(module).values():
        norm.eval()


class _Reestimate(pl.Callback):
    """Let a `Trainer.validate` run take the mean statistics of its batches."""

    def __init__(self) -> None:
        self._momentum: dict[str, float | None] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, norm in batch_norm_modules(pl_module).items():
            self._momentum[name] = norm.momentum
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
            norm.train()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, norm in batch_norm_modules(pl_module).items():
            norm.momentum = self._momentum[name]
            norm.eval()


def reestimate_batch_norm(
    module: pl.LightningModule, loader: DataLoader[Any], options: TrainerOptions
) -> None:
    """Replace BatchNorm's running statistics by those of a loader's images, in place.

    They become the plain mean over the batches, which should be training images as they are at
    inference, in shuffled order. There is no gradient; dropout and all else stay in eval mode.
    """
    trainer = make_trainer(options, callbacks=[_Reestimate()])
    trainer.validate(module, loader, verbose=False)
