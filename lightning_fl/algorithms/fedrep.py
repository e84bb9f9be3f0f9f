"""Train first the site's own head, then the representation that all share: FedRep."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import nn

from lightning_fl.algorithms.base import Algorithm, LocalFit
from lightning_fl.errors import ConfigError


class FedRep(Algorithm):
    """Shared representation, personal heads (Collins et al. 2021, arXiv 2102.07078, algorithm 1).

    In round t site i takes `head_steps` (tau) steps on its head h_i with the representation phi^t
    held, then the rest of the round's steps on the representation with the head held,

        h_i^{t,s} = GRD(f_i(h_i^{t,s-1}, phi^t), h_i^{t,s-1}, alpha),  s = 1 ... tau
        phi_i^{t+1} <- GRD(f_i(h_i^{t,tau}, phi), phi, alpha)

    and only phi is averaged. The head is everything that stays at the site, so with
    `batch_norm: local` the weights of BatchNorm train in the first phase too. The part that is
    held has no gradient, so neither momentum nor weight decay moves it.

    The running statistics of BatchNorm follow every training batch in both phases and in both
    parts, as the layers are in train mode throughout; where they are shared they are averaged.

    Args:
        head_steps: steps of each round that train the head alone, >= 1 and fewer than a round has.
            In a round of `local_epochs` a site with no more steps than these trains its head only.
        personal: the head: layers that stay at the site, by name or pattern; see `Algorithm`. With
            `shared_rounds` it is averaged at first, and trains in its own phase all the same.

    Raises:
        ConfigError: `head_steps` is less than 1, or `personal` is empty.
    """

    one_optimizer = True

    def __init__(
        self,
        head_steps: int = 10,
        *,
        personal: Sequence[str] = ("segmentation_head",),
        **common: Any,
    ) -> None:
        super().__init__(personal=personal, **common)
        if head_steps < 1:
            raise ConfigError(
                f"Expected `head_steps` to be at least 1, but got {head_steps}. FedAvg has no "
                "steps for the head alone."
            )
        if not self.personal:
            raise ConfigError(
                "FedRep trains personal layers and shared ones in turn, but `personal` is empty. "
                "Name at least one layer, or use FedAvg."
            )
        self.head_steps = head_steps

    def check_steps(self, steps: int) -> None:
        """Refuse rounds that have no step for the representation."""
        if steps <= self.head_steps:
            raise ConfigError(
                f"`head_steps` is {self.head_steps}, but a round has {steps} steps, which leaves "
                "none for the shared layers. Lower `head_steps` or raise `trainer.local_steps`."
            )

    def check_trainer(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Refuse optimisers whose steps cannot be counted, and fits with none for phi."""
        super().check_trainer(trainer, module)
        steps = trainer.max_steps - trainer.global_step
        is_rehearsal = self.round is None and steps == 1
        if trainer.max_steps != -1 and not is_rehearsal:
            self.check_steps(steps)

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Take the gradient away from the part that this step does not train."""
        if "done" not in fit.memory:
            fit.memory["head"], fit.memory["shared"] = self._parts(fit)
            fit.memory["done"] = 0
        held = "shared" if fit.memory["done"] < self.head_steps else "head"
        for weight in fit.memory[held]:
            weight.grad = None
        fit.memory["done"] += 1

    def _parts(self, fit: LocalFit) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        shared = self.shared_parameters(fit.module, always=True)
        named = fit.module.named_parameters()
        head = [p for name, p in named if p.requires_grad and name not in shared]
        return head, list(shared.values())
