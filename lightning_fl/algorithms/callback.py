"""Turn Lightning's hooks into the steps of a federated algorithm."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_fl.algorithms import Algorithm, LocalFit
from lightning_fl.training.batch_norm import freeze_batch_norm
from lightning_fl.training.batches import contents, cut, replace
from lightning_fl.training.step_loss import step_loss


class FederatedCallback(pl.Callback):
    """Train any LightningModule by a federated algorithm's local steps.

    The module `callbacks.federated` shows how to use it. It works on one device, with any precision
    Lightning offers, and with gradient clipping, which acts on the gradient that the algorithm
    made.

    Args:
        algorithm: the method; see `lightning_fl.algorithms`.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self._fit: LocalFit | None = None
        self._give_back: Callable[[], None] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the algorithm can work with this Trainer and module.

        Raises:
            ConfigError: it cannot; the message says what to change.
        """
        self.algorithm.check_trainer(trainer, pl_module)
        parameters = [p for p in pl_module.parameters() if p.requires_grad]
        extra_pass = _ExtraPass(trainer, pl_module)
        self._fit = LocalFit(pl_module, parameters, extra_pass, extra_pass.loss_scale)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold BatchNorm's statistics fixed where the run says so."""
        if self.algorithm.batch_norm == "freeze":
            freeze_batch_norm(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Cut the batch, let the algorithm act, and leave the first part for `training_step`.

        The parts are disjoint with any loader, and `training_step` sees the first one in the very
        batch object that it would have seen anyway.
        """
        batches = [batch]
        if self.algorithm.batches_per_step > 1:
            batches = cut(batch, self.algorithm.batches_per_step)
            self._give_back = contents(batch)
            replace(batch, batches[0])
        self.algorithm.before_batch(self._current(), batches)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Let the algorithm make its gradient out of the one Lightning computed."""
        with torch.enable_grad():  # `optimizer.step` switches gradients off around this hook
            self.algorithm.before_optimizer_step(self._current())

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Give the loader its whole batch back, in case it hands it out again."""
        self._end_step()

    def on_train_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """End the step here where a hook of the module has skipped it."""
        self._end_step()

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Leave the module with the weights it had before the step that failed."""
        self._end_step()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the module."""
        self._fit = None

    def _end_step(self) -> None:
        if self._give_back is not None:
            self._give_back()
            self._give_back = None
        if self._fit is not None:
            self.algorithm.end_step(self._fit)

    def _current(self) -> LocalFit:
        if self._fit is None:
            raise RuntimeError("FederatedCallback works inside `Trainer.fit` only.")
        return self._fit


class _ExtraPass:
    """Compute a batch's training loss in a pass that leaves no trace but its gradient."""

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.trainer = trainer
        self.module = module
        # Lightning's own rule: a second parameter of any name is the index of the batch
        self._takes_index = len(inspect.signature(module.training_step).parameters) > 1

    def loss_scale(self) -> float:
        """Return what the GradScaler multiplies losses by at present; 1 without one."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def __call__(self, batch: Any, autocast: bool) -> Tensor:
        plugin = self.trainer.precision_plugin
        context = plugin.train_step_context() if autocast else nullcontext()
        with torch.enable_grad(), context, _silent(self.module), _buffers_kept(self.module):
            index = (self.trainer.fit_loop.batch_idx,) if self._takes_index else ()
            output = self.module.training_step(batch, *index)
        return step_loss(self.module, output, "algorithms with extra passes need")


@contextmanager
def _silent(module: pl.LightningModule) -> Iterator[None]:
    """Let `self.log` and `self.log_dict` do nothing, so that a step is logged once."""
    for name in ("log", "log_dict"):
        module.__dict__[name] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            del module.__dict__[name]


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give every buffer and every torchmetrics state its value back afterwards."""
    saved = [
        (owner, name, buffer, buffer.detach().clone())
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    metrics = [m for m in module.modules() if isinstance(m, Metric)]
    states = [copy.deepcopy({k: v for k, v in vars(m).items() if k in _kept(m)}) for m in metrics]
    try:
        yield
    finally:
        for owner, name, buffer, value in saved:
            buffer.data.copy_(value)
            owner._buffers[name] = buffer  # also where the pass has put another tensor there
        for metric, state in zip(metrics, states, strict=True):
            vars(metric).update(state)


def _kept(metric: Metric) -> set[str]:
    """Name what a metric's update changes."""
    return {*metric._defaults, "_update_count", "_computed", "_forward_cache"}
