"""What a federated method is: both of its halves, the site's and the coordinator's."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.algorithms.server import GlobalRound, ServerOptimizer
from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import (
    BatchNormPolicy,
    batch_norm_entries,
    describe_norm_layers,
)
from lightning_fl.training.layout import Layout, State, make_layout
from lightning_fl.training.personal_layers import (
    check_something_is_shared,
    check_ties,
    personal_entries,
)

_log = logging.getLogger(__name__)


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
        memory: what an algorithm remembers until the end of this fit; empty when it begins.
        loss_scale: what AMP multiplies losses by at present; 1 where it does not.
    """

    module: pl.LightningModule
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Any, bool], Tensor]
    loss_scale: Callable[[], float] = lambda: 1.0
    spare: list[Tensor] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


class Algorithm:
    """A federated method; the base class is plain local training with averaging.

    Subclasses override the few hooks they need. An object may keep what it likes between
    `before_batch` and `before_optimizer_step` of one step, and nothing longer; `LocalFit.memory`
    lasts for a whole fit, and the copy that `begin_round` makes from there to `end_round`.

    Args:
        batch_norm: "average" shares BatchNorm layers and averages them with everything else,
            "local" keeps them at the site (FedBN), "freeze" shares them but holds their running
            statistics fixed. Layers are found by type.
        personal: layers that stay at the site, weights and buffers: names or fnmatch patterns of
            modules, with or without the attribute that holds the net ("segmentation_head",
            "decoder.blocks.3", "encoder", "*.head"), or "last_decoder_block". Every site begins
            with the same ones; a site that never trains has none but these. Goes with any
            `batch_norm`.
        shared_rounds: in so many rounds what `personal` and `batch_norm: local` name is still
            averaged like everything else; with 0 it never leaves the site. The weights that go
            into the round after these are the averaged ones; from that round on each site goes on
            from its own values of these layers. They keep travelling with the update, so that the
            global model has the weighted mean of the values of the sites that trained in a round,
            for hospitals that never train and for sites whose turn has not come. So they cost
            bytes, and whoever may see an update sees them. Where the compact ring's range clips
            them, this mean is rougher; nothing is carried over, for they are sent whole each time.
        server: how the coordinator steps along the mean update, null to add it as it is. Goes with
            any method.

    Attributes:
        round: the round that this object trains, None outside of a run.
        received: in a run, the global entries that the round began with, by name.
        kept: in a run, what stayed at this site after the last round it trained, by name.
        batches_per_step: disjoint batches that one optimiser step needs; the site's loader draws
            them as one.
        gradients_per_step: gradients that one optimiser step costs, to compare methods at equal
            work; those of a second model included.
        second: how a site trains a second model, of its own, in each round, for as long as the
            first; null for none. It begins as the first one and never leaves the site, and
            personalisation starts from it.
        trains_alone: nothing is shared; each site keeps its own model.
        pools_data: one model is trained on everybody's data in one place (a bound for
            comparison, forbidden in practice).
    """

    batches_per_step: int = 1
    gradients_per_step: int = 1
    trains_alone: bool = False
    pools_data: bool = False
    second: "Algorithm | None" = None

    def __init__(
        self,
        *,
        batch_norm: BatchNormPolicy = "average",
        personal: Sequence[str] = (),
        shared_rounds: int = 0,
        server: ServerOptimizer | None = None,
    ) -> None:
        if batch_norm not in ("average", "local", "freeze"):
            raise ConfigError(
                f"Expected `batch_norm` to be average, local or freeze, but got {batch_norm!r}."
            )
        if isinstance(personal, str):
            raise ConfigError(
                f"Expected `personal` to be a list of layers, but got {personal!r}. Write "
                f"[{personal!r}]."
            )
        if shared_rounds < 0:
            raise ConfigError(
                f"Expected `shared_rounds` to be non-negative, but got {shared_rounds}."
            )
        if shared_rounds and not personal and batch_norm != "local":
            raise ConfigError(
                f"`shared_rounds` is {shared_rounds}, but no layer stays at the sites afterwards. "
                "Name layers in `personal`, set `batch_norm: local`, or leave `shared_rounds` out."
            )
        self.batch_norm = batch_norm
        self.personal = tuple(personal)
        self.shared_rounds = shared_rounds
        self.server = server
        self.round: int | None = None
        self.received: Mapping[str, Tensor] = {}
        self.kept: Mapping[str, Tensor] = {}

    def local_entries(self, module: nn.Module) -> set[str]:
        """Names of the entries of `module.state_dict()` that stay at the site (in the end).

        Raises:
            ConfigError: `personal` names no layer, every layer, or one of two that share a weight.
        """
        local = personal_entries(module, self.personal)
        if self.batch_norm == "local":
            local |= batch_norm_entries(module)
        if self.personal:
            check_something_is_shared(module, local, list(self.personal))
            check_ties(module, local)
        return local

    def layout(self, module: nn.Module) -> Layout:
        """Decide which entries of a module travel, in the order of the flat vector."""
        if self.batch_norm == "local" and not batch_norm_entries(module):
            _log.warning(
                "`batch_norm: local` (FedBN) keeps nothing at the sites, because this net has no "
                "BatchNorm layer; it equals `batch_norm: average`. Norm layers of this net: %s. "
                "To keep those at the sites, name them in `personal`.",
                describe_norm_layers(module),
            )
        local, extra = self.local_entries(module), self.extra_entries(module)
        if self.shared_rounds:
            return make_layout(module, late=local, extra=extra)
        return make_layout(module, local, extra=extra)

    def extra_entries(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Entries, name to shape, that travel with the module's and are none of them; first 0.

        The global values come with the weights; a site's update of them is what `end_round` says.
        """
        return {}

    def begin_round(
        self, round_: int, received: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> Self:
        """A copy that trains a round at one site.

        Args:
            round_: of the run.
            received: the global entries, by name.
            kept: what stayed at this site after the last round it trained, by name.
        """
        trained = copy.copy(self)
        trained.round, trained.received, trained.kept = round_, received, kept
        return trained

    def end_round(self) -> tuple[State, State]:
        """Updates of the extra entries, and what the site keeps for its next round; by name."""
        return {}, {}

    def layers_stay(self, round_: int) -> bool:
        """Whether personal layers and local BatchNorm stay at the site in a round."""
        return round_ > self.shared_rounds

    def shared_parameters(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """The trainable parameters, by name, that all sites have in common in this round."""
        stay = self.round is None or self.layers_stay(self.round)
        local = self.local_entries(module) if stay else set()
        named = module.named_parameters()
        return {name: p for name, p in named if p.requires_grad and name not in local}

    def for_rounds(self, rounds: int) -> Self:
        """Return the algorithm of a run that has this number of rounds.

        Raises:
            ConfigError: `shared_rounds` leaves none in which layers stay at the sites.
        """
        if self.shared_rounds >= rounds:
            raise ConfigError(
                f"Expected `algorithm.shared_rounds` to be less than `rounds`, {rounds}, but "
                f"got {self.shared_rounds}. Without `personal` and local BatchNorm all "
                "rounds are shared."
            )
        return self

    def check_steps(self, steps: int) -> None:
        """Refuse a number of optimiser steps in a round that the method cannot work with.

        Raises:
            ConfigError: names the setting and the remedy.
        """

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

    def apply_mean(
        self, weights: Tensor, mean_update: Tensor, known: GlobalRound
    ) -> tuple[Tensor, State]:
        """The coordinator's half: new global weights from the sites' mean update, shape (length,).

        w <- w + sum_k (n_k / N) (w_k - w), McMahan et al. 2017 (arXiv 1602.05629), algorithm 1;
        with `server` it takes its step where weights are trained.

        Returns:
            The weights, and what the server optimiser remembers until the next round.
        """
        if self.server is None:
            return weights + mean_update, {}
        step, memory = self.server.step(mean_update, known.memory)
        layout = known.layout
        own = layout.late if self.layers_stay(known.round) else ()
        trained = layout.mask({*layout.trained}.difference(own))
        return weights + torch.where(trained, step, mean_update), memory


def check_one_optimizer(method: str, trainer: pl.Trainer) -> None:
    """Refuse optimisers under which a step of the method would not be one step.

    Args:
        method: name of the algorithm, for the message.
        trainer: at the start of a fit.

    Raises:
        ConfigError: there are several optimisers, or one that evaluates the loss repeatedly.
    """
    if len(trainer.optimizers) > 1:
        raise ConfigError(
            f"{method} needs one optimiser for all weights, but the task has "
            f"{len(trainer.optimizers)}. Use one with several parameter groups, or FedAvg."
        )
    if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
        raise ConfigError(
            f"{method} cannot use LBFGS, which evaluates the loss repeatedly. Use SGD or Adam."
        )
