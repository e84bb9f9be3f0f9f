"""Which layers a fine-tuning trains, and how the others are held as they came."""

from collections.abc import Collection, Sequence

import pytorch_lightning as pl
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import batch_norm_modules, norm_layers
from lightning_fl.training.personal_layers import (
    entries_of,
    matching_layers,
    personal_entries,
)

HEAD = "segmentation_head"
"""What segmentation_models_pytorch calls the layers that give the logits."""


def fitted_entries(module: nn.Module, layers: str | Sequence[str]) -> set[str]:
    """Name, as in `state_dict`, what a fine-tuning may change.

    The layers are "all"; "head", the layer called segmentation_head or, in a net without one, the
    last layer in order of definition that has weights of its own; "norm", every normalising layer;
    or names and patterns as for an algorithm's `personal`.

    Raises:
        ConfigError: it names no layer with trainable weights or, "all" aside, every one.
    """
    if layers == "all":
        return set(module.state_dict())
    if layers == "head":
        entries = entries_of(module, matching_layers(module, HEAD) or _last_layer(module))
    elif layers == "norm":
        entries = entries_of(module, [n for names in norm_layers(module).values() for n in names])
    else:
        entries = personal_entries(module, layers, setting="layers")
    _check_part(module, entries, layers)
    return entries


class HoldOthers(pl.Callback):
    """Keep everything but some entries as it is for the length of a fit, statistics too."""

    def __init__(self, entries: Collection[str]) -> None:
        self.entries = frozenset(entries)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the gradient from the other weights before the optimiser is made."""
        for name, weight in pl_module.named_parameters():
            if name not in self.entries:
                weight.requires_grad_(False)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold the running statistics of BatchNorm layers that are not among the entries."""
        for name, norm in batch_norm_modules(pl_module).items():
            if self.entries.isdisjoint({f"{name}.{entry}" for entry in norm.state_dict()}):
                norm.eval()


def _last_layer(module: nn.Module) -> list[str]:
    layers = [
        name
        for name, layer in module.named_modules()
        if name and next(layer.parameters(recurse=False), None) is not None
    ]
    return layers[-1:]


def _check_part(module: nn.Module, entries: set[str], layers: str | Sequence[str]) -> None:
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    chosen = trained & entries
    if not chosen:
        raise ConfigError(
            f"FineTune's `layers: {layers}` names no layer of {type(module).__name__} with "
            "trainable weights. Name layers by pattern, or use `layers: all`."
        )
    if chosen == trained:
        raise ConfigError(
            f"FineTune's `layers: {layers}` names every trainable weight of "
            f"{type(module).__name__}. Say `layers: all`, or name fewer."
        )
