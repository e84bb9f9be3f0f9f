"""The gradient of any LightningModule for a batch, and what an update says about it."""

import copy
import inspect
from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_fl.errors import ConfigError
from lightning_fl.training.step_loss import step_loss

Gradient = dict[str, Tensor]
"""A tensor for each parameter, by its name in the module."""

Batch = Mapping[str, Tensor]
"""`image`, float (B, C, H, W), and `label` (B,) or `mask` (B, H, W)."""


class TaskGradient:
    """Loss and gradient of a module as functions of a batch, at weights that stay as they are.

    It works on a copy of the module, which logs nothing. Neither weights, BatchNorm statistics nor
    scores of the original change. The statistics are the copy's own, so an attacker with other
    statistics than the site's hands in a module that has them. In training mode BatchNorm uses
    those of the batch, and the attacker needs none. Dropout in training mode draws anew in each
    pass.

    Args:
        module: whose `training_step` gives a loss; frozen parameters have no gradient.
        training: whether the net is in training mode, as at a site.

    Raises:
        ConfigError: no parameter has a gradient.
    """

    def __init__(self, module: pl.LightningModule, *, training: bool = True) -> None:
        self.module = copy.deepcopy(module).train(training)
        for name in ("log", "log_dict"):  # there is no trainer to log to, and Lightning would warn
            self.module.__dict__[name] = lambda *args, **kwargs: None
        named = self.module.named_parameters()
        self.weights: Gradient = {n: p.detach() for n, p in named if p.requires_grad}
        if not self.weights:
            raise ConfigError(
                f"{type(module).__name__} has no parameter with a gradient, so there is nothing "
                "to attack. Unfreeze a layer."
            )
        self._step = _TrainingStep(self.module)

    @property
    def like(self) -> Tensor:
        """A tensor with the precision and the device of the weights; batches follow it."""
        return next(iter(self.weights.values()))

    def __call__(
        self, batch: Batch, *, weights: Gradient | None = None, create_graph: bool = False
    ) -> Gradient:
        """Return the gradient of the loss with respect to every trainable parameter.

        Args:
            batch: of the site or of the attacker's guess.
            weights: at which to differentiate; the module's own by default.
            create_graph: whether the gradient can be differentiated with respect to the batch.

        Raises:
            ConfigError: `training_step` gives no loss.
        """
        at = self.weights if weights is None else weights
        if weights is None or not create_graph:
            at = {name: weight.detach().requires_grad_() for name, weight in at.items()}
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                self._loss(batch, at),
                list(at.values()),
                create_graph=create_graph,
                materialize_grads=True,  # zeros for a parameter that the loss does not use
            )
        return dict(zip(at, gradients, strict=True))

    def _loss(self, batch: Batch, weights: Gradient) -> Tensor:
        values = {f"module.{n}": w for n, w in weights.items()}
        # In training mode BatchNorm writes into its buffers.
        buffers = {f"module.{n}": b.clone() for n, b in self.module.named_buffers()}
        images = batch["image"].to(self.like)
        loss: Tensor = functional_call(self._step, values | buffers, ({**batch, "image": images},))
        return loss


class _TrainingStep(nn.Module):
    """Makes a training step the forward pass of a module, as `functional_call` wants it."""

    def __init__(self, module: pl.LightningModule) -> None:
        super().__init__()
        self.module = module
        # Lightning's own rule: a second parameter of any name is the index of the batch.
        self._takes_index = len(inspect.signature(module.training_step).parameters) > 1

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of the batch."""
        # Batch 1: tasks check class numbers in batch 0, and guesses are soft.
        index = (1,) if self._takes_index else ()
        output = self.module.training_step(batch, *index)
        return step_loss(self.module, output, "the attacks need")


def mean_gradient(update: Gradient, *, lr: float, steps: int) -> Gradient:
    """Return the mean gradient `-u / (lr steps)` of an update u (local minus global weights).

    It is exact for one step of plain SGD. After several steps it is the mean of the gradients on
    the way. Weight decay and momentum are part of it. Adam's first step is
    `-lr g / (|g| + eps)`, so for Adam it is little more than the gradient's sign, and no scale is
    left: match it by its direction (`invert_gradient`), not by distance.

    Raises:
        ConfigError: `lr` or `steps` is not positive.
    """
    if lr <= 0:
        raise ConfigError(f"Expected `lr` to be positive, but got {lr}.")
    if steps < 1:
        raise ConfigError(f"Expected `steps` to be at least 1, but got {steps}.")
    return {name: -value / (lr * steps) for name, value in update.items()}
