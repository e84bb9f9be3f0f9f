"""Learn global weights that adapt to each site in a few gradient steps: Per-FedAvg."""

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_fl.algorithms.base import Algorithm, LocalFit
from lightning_fl.algorithms.meta_gradient import (
    at_finite_scale,
    gradient,
    hessian_product,
    hessian_product_by_differences,
    in_float64,
    move,
    put_back,
)
from lightning_fl.errors import ConfigError
from lightning_fl.training.batches import to_float64

Order = Literal["first", "exact", "hessian_free"]


class PerFedAvg(Algorithm):
    """Personalised federated averaging (Fallah et al. 2020, arXiv 2002.07948, algorithm 1).

    Each local step of site i uses disjoint batches D, D' and, for second order, D'':

        w~ = w - alpha grad f_i(w; D)
        w <- w - beta (I - alpha Hess f_i(w; D'')) grad f_i(w~; D')

    alpha is `inner_lr`. The outer step is the task's optimiser: with `torch.optim.SGD` of rate
    beta it is the equation above, with Adam its meta-gradient goes through Adam.

    BatchNorm's running statistics follow Lightning's own pass alone, the one on D' at w~; the
    extra passes on D and D'' normalise with their batch and leave the statistics as they were.
    Personal layers make the inner and the outer step like all others.

    Args:
        inner_lr: alpha, the rate of the inner gradient step, > 0.
        order: "first" drops the Hessian; a step takes two gradients. "exact" multiplies with it by
            double backward; a step takes the time of five to seven gradients. "hessian_free"
            multiplies by differences of gradients in float64; a step takes four gradients, two of
            them in double precision, which is slow on a CPU and on GPUs without it.

    Raises:
        ConfigError: `inner_lr` is not positive, or `order` is unknown.
    """

    one_optimizer = True

    def __init__(self, inner_lr: float = 0.01, order: Order = "first", **common: Any) -> None:
        super().__init__(**common)
        if not inner_lr > 0:
            raise ConfigError(f"Expected `inner_lr` to be positive, but got {inner_lr}.")
        if order not in ("first", "exact", "hessian_free"):
            raise ConfigError(
                f"Expected `order` to be first, exact or hessian_free, but got {order!r}."
            )
        self.inner_lr = inner_lr
        self.order = order
        self.batches_per_step = 2 if order == "first" else 3
        self.gradients_per_step = 2 if order == "first" else 4
        self._outer_weights: list[Tensor] | None = None
        self._hessian_batch: Any = None

    def check_trainer(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Refuse what would take the outer gradient at the wrong weights."""
        if not module.automatic_optimization:
            raise ConfigError(
                f"PerFedAvg takes {type(module).__name__}'s gradient at other weights than it "
                "updates, which manual optimization does not allow. Use automatic optimization, "
                "or another algorithm such as FedAvg."
            )
        if trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                "PerFedAvg makes one inner step for each optimiser step, but "
                f"accumulate_grad_batches is {trainer.accumulate_grad_batches}. Set it to 1 and "
                "raise `batch_size` instead."
            )
        if trainer.world_size != 1:
            raise ConfigError(
                f"PerFedAvg runs a site on one device, but the Trainer has {trainer.world_size}. "
                "Set `devices: 1`."
            )
        super().check_trainer(trainer, module)

    def before_batch(self, fit: LocalFit, batches: Sequence[Any]) -> None:
        """Move from w to w~ with a gradient on D; Lightning then takes the gradient on D'."""
        _, support, *rest = batches
        self._hessian_batch = rest[0] if rest else None

        def scaled(scale: float) -> list[Tensor]:
            return gradient(fit.loss(support, True) * scale, fit.parameters)

        inner = at_finite_scale(scaled, fit.loss_scale())
        spare = fit.memory.setdefault("spare", [])
        self._outer_weights = move(fit.parameters, inner, -self.inner_lr, spare)

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Go back to w, where the task's optimiser then applies the meta-gradient."""
        if self._outer_weights is None:
            raise RuntimeError("PerFedAvg's outer step was reached without an inner step.")
        put_back(fit.parameters, self._outer_weights)
        self._outer_weights = None
        if self.order != "first":
            self._subtract_hessian_term(fit)

    def end_step(self, fit: LocalFit) -> None:
        """Go back to w if the step never came to its optimiser."""
        if self._outer_weights is not None:
            put_back(fit.parameters, self._outer_weights)
            self._outer_weights = None
        self._hessian_batch = None

    def _subtract_hessian_term(self, fit: LocalFit) -> None:
        """Turn the g that Lightning left in `.grad` into g - alpha Hess f(w; D'') g."""
        trained = [p for p in fit.parameters if p.grad is not None]
        outer = [p.grad for p in trained if p.grad is not None]
        product = self._hessian_product(fit, trained, outer)
        with torch.no_grad():
            for part, term in zip(outer, product, strict=True):
                part.sub_(term.to(part.dtype), alpha=self.inner_lr)

    def _hessian_product(
        self, fit: LocalFit, parameters: Sequence[Tensor], vector: list[Tensor]
    ) -> list[Tensor]:
        batch = self._hessian_batch
        if self.order == "exact":

            def scaled(scale: float) -> list[Tensor]:
                return hessian_product(lambda: fit.loss(batch, True) * scale, parameters, vector)

            try:
                return at_finite_scale(scaled, fit.loss_scale())
            except RuntimeError as error:
                if "is not implemented" not in str(error):
                    raise
                raise ConfigError(
                    f"`order: exact` needs second derivatives, but torch has none for a layer of "
                    f"this net ({error}). Use `order: first` or `hessian_free`, or another net."
                ) from error
        with in_float64(fit.module):
            double = to_float64(batch)
            return hessian_product_by_differences(
                lambda: fit.loss(double, False), parameters, [v.double() for v in vector]
            )
