"""What a federated method is: both of its halves, the site's and the coordinator's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_fl.batch_norm import BatchNormPolicy, batch_norm_entries
from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class LocalFit:
    """What an algorithm may use during one `Trainer.fit`.

    Attributes:
        module: the module that is trained.
        parameters: its trainable parameters, in a fixed order.
        loss: `training_step`'s loss of a batch at the present weights, as an extra pass: it logs
            nothing and leaves every buffer (BatchNorm statistics) as it was. The second argument
            says whether the pass runs under the Trainer's autocast.
        spare: memory that an algorithm may use again in the next step of this fit.
        loss_scale: what AMP multiplies losses by at present; 1 where it does not.
    """

    module: pl.LightningModule
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Any, bool], Tensor]
    loss_scale: Callable[[], float] = lambda: 1.0
    spare: list[Tensor] = field(default_factory=list)


class Algorithm:
    """A federated method; the base class is plain local training with averaging.

    Subclasses override the few hooks they need. An object may keep what it likes between
    `before_batch` and `before_optimizer_step` of one step, and nothing longer.

    Args:
        batch_norm: "average" shares BatchNorm layers and averages them with everything else,
            "local" keeps them at the site (FedBN), "freeze" shares them but holds their running
            statistics fixed. Layers are found by type.

    Attributes:
        batches_per_step: disjoint batches that one optimiser step needs; the site's loader draws
            them as one.
        gradients_per_step: gradients that one optimiser step costs, to compare methods at equal
            work.
        trains_alone: nothing is shared; each site keeps its own model.
        pools_data: one model is trained on everybody's data in one place (a bound for
            comparison, forbidden in practice).
    """

    batches_per_step: int = 1
    gradients_per_step: int = 1
    trains_alone: bool = False
    pools_data: bool = False

    def __init__(self, *, batch_norm: BatchNormPolicy = "average") -> None:
        if batch_norm not in ("average", "local", "freeze"):
            raise ConfigError(
                f"Expected `batch_norm` to be average, local or freeze, but got {batch_norm!r}."
            )
        self.batch_norm = batch_norm

    def local_entries(self, module: nn.Module) -> set[str]:
        """Names of the entries of `module.state_dict()` that stay at the site."""
        return batch_norm_entries(module) if self.batch_norm == "local" else set()

    def check_trainer(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Refuse, before the first step, a Trainer or module that the method cannot work with.

        Raises:
            ConfigError: names the setting and the remedy.
        """

    def before_batch(self, fit: LocalFit, batches: Sequence[Any]) -> None:
        """Called before Lightning's step, which will see `batches[0]` and nothing of the others."""

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Called with the step's gradients in `.grad`, after AMP unscaling and before clipping."""

    def end_step(self, fit: LocalFit) -> None:
        """Called when a step is over, also one that was skipped or has failed."""

    def apply_mean(self, weights: Tensor, mean_update: Tensor) -> Tensor:
        """The coordinator's half: new global weights from the sites' mean update, shape (length,).

        w <- w + sum_k (n_k / N) (w_k - w), McMahan et al. 2017 (arXiv 1602.05629), algorithm 1.
        """
        return weights + mean_update
