"""DP-SGD in a Lightning fit: gradients of single samples are clipped, and noise is added."""

import secrets
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.privacy.gaussian import gaussian
from lightning_fl.privacy.poisson import PoissonBatches


class PrivateFit(pl.Callback):
    """Makes each step of a `Trainer.fit` one of DP-SGD (Abadi et al. 2016, arXiv 1607.00133).

    opacus' hooks take the gradient of each sample and its optimiser sums what is left of them
    after clipping; the noise is ours, because opacus' generator can be foretold.

    Args:
        max_grad_norm: to which each sample's gradient is clipped.
        noise_multiplier: of the sum.
        batches: of this fit; tells which ones have nobody in them.
    """

    def __init__(
        self, *, max_grad_norm: float, noise_multiplier: float, batches: PoissonBatches
    ) -> None:
        self.max_grad_norm = max_grad_norm
        self.noise_multiplier = noise_multiplier
        self.batches = batches
        self._hooks: Any = None
        self._empty = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put opacus' hooks on the layers and its optimiser around the task's.

        Raises:
            ConfigError: the task has several optimisers.
        """
        from opacus.grad_sample.grad_sample_module import GradSampleHooks

        if len(trainer.optimizers) != 1:
            raise ConfigError(
                f"SampleLevelDP needs one optimiser, but the task has {len(trainer.optimizers)}."
            )
        for layer in pl_module.modules():
            if getattr(layer, "inplace", False):  # would overwrite what backward hooks look at
                vars(layer)["inplace"] = False
        self._hooks = GradSampleHooks(pl_module, loss_reduction="mean")
        trainer.strategy.optimizers = [self._optimizer(trainer.optimizers[0])]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note whether anybody is in this batch."""
        self._empty = self.batches.empty.popleft()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the stand-in of an empty batch out; the step has its noise all the same."""
        for parameter in pl_module.parameters() if self._empty else ():
            gradients = getattr(parameter, "grad_sample", None)  # opacus' own attribute
            if gradients is not None:
                gradients.zero_()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the module as it was but for its weights."""
        self._detach(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the module as it was but for its weights."""
        self._detach(pl_module)

    def _detach(self, module: nn.Module) -> None:
        if self._hooks is not None:
            self._hooks.remove_hooks()
            self._hooks = None
        for parameter in module.parameters():
            for name in ("grad_sample", "summed_grad", "_forward_counter"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def _optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        from opacus.optimizers import DPOptimizer

        class Private(DPOptimizer):  # type: ignore[misc]  # opacus has no types
            def add_noise(self) -> None:
                std = self.noise_multiplier * self.max_grad_norm
                for parameter in self.params:
                    key = secrets.token_bytes(32)
                    noise = torch.from_numpy(gaussian(key, 0, parameter.numel()))
                    total = parameter.summed_grad
                    parameter.grad = total + (std * noise).reshape(total.shape).to(total)

        private: torch.optim.Optimizer = Private(
            optimizer,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=self.batches.rate * self.batches.samples,
        )
        return private
