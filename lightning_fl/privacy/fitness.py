"""Check what can be trained with sample-level privacy, and name what is in the way."""

import copy
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.algorithms import Algorithm
from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import batch_norm_modules
from lightning_fl.training.batches import batch_length, cut
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.step_loss import step_loss

NAMED = 3
"""Layers of a kind that an error names."""


def check_method(algorithm: Algorithm) -> None:
    """Refuse methods with gradients that are not clipped sample by sample."""
    kind = type(algorithm)
    hooks = ("before_batch", "before_optimizer_step")
    changed = [hook for hook in hooks if getattr(kind, hook) is not getattr(Algorithm, hook)]
    if changed or algorithm.second is not None or algorithm.batches_per_step > 1:
        raise ConfigError(
            f"SampleLevelDP does not go with {kind.__name__}, which changes gradients or takes "
            "some of its own that are not clipped for each sample. Use FedAvg, FedPer or "
            "LateLocal, or SiteLevelDP."
        )


def check_trainer(trainer: TrainerOptions) -> None:
    """Refuse settings of the Trainer that clipping and noise would not see."""
    wanted: dict[str, Any] = {
        "precision": "32-true",
        "gradient_clip_val": None,
        "accumulate_grad_batches": 1,
    }
    for name, value in wanted.items():
        setting = getattr(trainer, name)
        if setting != value:
            raise ConfigError(
                f"SampleLevelDP needs `trainer.{name}: {'null' if value is None else value}`, but "
                f"got {setting}."
            )


def check_layers(module: nn.Module) -> None:
    """Refuse layers that mix samples or keep statistics of them."""
    by_kind: dict[str, list[str]] = {}
    for name in _layers_in_the_way(module):
        by_kind.setdefault(type(module.get_submodule(name)).__name__, []).append(name)
    if not by_kind:
        return
    words = [
        f"{kind} ({len(names)}: {', '.join(names[:NAMED])}{', ...' * (len(names) > NAMED)})"
        for kind, names in sorted(by_kind.items())
    ]
    raise ConfigError(
        f"SampleLevelDP cannot train this net, because of its layers {'; '.join(words)}. "
        "Choose a net with GroupNorm, e.g. monai.networks.nets.BasicUNet with `norm: [group, "
        "{num_groups: 4}]`, or protect whole sites with SiteLevelDP."
    )


def _layers_in_the_way(module: nn.Module) -> list[str]:
    """Return the names of layers that opacus cannot take gradients of single samples through."""
    from opacus.validators import ModuleValidator

    names = list(batch_norm_modules(module))
    for name, layer in module.named_modules():
        trains = any(p.requires_grad for p in layer.parameters(recurse=False))
        buffers = next(layer.buffers(recurse=False), None) is not None
        checked = type(layer) in ModuleValidator.VALIDATORS
        if (trains and buffers) or (checked and ModuleValidator.validate(layer.train())):
            names.append(name)
    return list(dict.fromkeys(names))


def check_loss(module: pl.LightningModule, batch: Any) -> None:
    """Refuse a loss that is not the mean of its samples' losses, tried on one batch.

    Were it not, another sample would change this one's gradient, and clipping would bound nothing.
    The module is not changed.
    """
    samples = batch_length(batch)
    if samples < 2:
        return
    spare = copy.deepcopy(module).eval()  # dropout would make any two losses differ
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning: there is nowhere to log to
        whole = _loss(spare, batch)
        single = torch.stack([_loss(spare, part) for part in cut(batch, samples)]).mean()
    if not torch.isclose(whole, single, rtol=1e-3, atol=1e-5):
        raise ConfigError(
            "SampleLevelDP needs a loss that is the mean of its samples' losses, but "
            f"{type(module).__name__} has {float(whole):.5g} for a batch, and its samples "
            f"{float(single):.5g} on average. So it is with Dice over a batch; use cross-entropy, "
            "e.g. models.DiceCrossEntropy with `dice: 0`."
        )


def _loss(module: pl.LightningModule, batch: Any) -> Tensor:
    return step_loss(module, module.training_step(batch, 0), "SampleLevelDP needs")
