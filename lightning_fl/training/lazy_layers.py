"""Give lazy layers their shapes before a run's weights are laid out."""

import copy
import warnings
from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torchmetrics import Metric

from lightning_fl.errors import ConfigError
from lightning_fl.seeds import derive_seed, seed_all


def has_lazy_layers(module: nn.Module) -> bool:
    """Return whether a module has entries without a shape."""
    return any(is_lazy(entry) for entry in chain(module.parameters(), module.buffers()))


def copy_of(task: pl.LightningModule) -> pl.LightningModule:
    """Copy a task; torch itself cannot copy buffers without a shape, such as LazyBatchNorm's."""
    new: Any = UninitializedBuffer  # whose arguments torch's types leave out
    lazy = [buffer for buffer in task.buffers() if is_lazy(buffer)]
    copies: dict[int, Any] = {id(old): new(device=old.device, dtype=old.dtype) for old in lazy}
    return copy.deepcopy(task, copies)


def with_lazy_layers_built(
    task: pl.LightningModule, batches: Iterable[Any], seed: int
) -> pl.LightningModule:
    """Copy a task and build its lazy layers by one training step that learns nothing.

    The layers get their first weights from the seed, so that every party has equal ones. Of the
    data only the shapes matter. A task without lazy layers is returned as it is, and no batch is
    drawn for it.

    Args:
        task: is not changed.
        batches: of training; the first one is used.
        seed: of the run.

    Raises:
        ConfigError: the step fails.
    """
    if not has_lazy_layers(task):
        return task
    built, batch = copy_of(task).eval(), next(iter(batches))
    seed_all(derive_seed(seed, "lazy layers"))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Lightning: there is nowhere to log to
            built.training_step(batch, 0)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"The lazy layers of {type(task).__name__} get their shapes from one training step "
            f"without a Trainer, which failed: {error} Use the layers with their input sizes."
        ) from error
    for part in built.modules():
        if isinstance(part, Metric):
            part.reset()
    return built.train()
