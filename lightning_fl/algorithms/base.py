"""Define a federated method: both of its halves, the site's and the coordinator's."""

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
    """Hold what an algorithm may use during one `Trainer.fit`.

    Attributes:
        module: the module that is trained.
        parameters: its trainable parameters, in a fixed order.
        loss: `training_step`'s loss of a batch at the present weights, as an extra pass: it logs
            nothing and leaves every buffer (BatchNorm statistics) as it was. The second argument
            says whether the pass runs under the Trainer's autocast.
        loss_scale: what AMP multiplies losses by at present; 1 where it does not.
        memory: what an algorithm remembers until the end of this fit; empty when it begins.
    """

    module: pl.LightningModule
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Any, bool], Tensor]
    loss_scale: Callable[[], float] = lambda: 1.0
    memory: dict[str, Any] = field(default_factory=dict)


class Algorithm:
    """Train locally and average; a federated method overrides the few hooks it needs.

    An object may keep what it likes between `before_batch` and `before_optimizer_step` of one step,
    and nothing longer. `LocalFit.memory` lasts for a whole fit, and the copy that `begin_round`
    makes lasts until `end_round`.

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
        one_optimizer: the method refuses several optimisers, and LBFGS, which evaluates the loss
            repeatedly: under these a step of the method is not one step.
        trains_alone: nothing is shared; each site keeps its own model.
        pools_data: one model is trained on everybody's data in one place (a bound for
            comparison, forbidden in practice).
    """

    batches_per_step: int = 1
    gradients_per_step: int = 1
    one_optimizer: bool = False
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
        """Name the entries of `module.state_dict()` that stay at the site (in the end).

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
            # one layout for all rounds, so neither the ring nor a resume knows of the switch
            return make_layout(module, late=local, extra=extra)
        return make_layout(module, local, extra=extra)

    def extra_entries(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Name what travels beside the module's entries, with its shape; it is 0 at first.

        The global values come with the weights; `end_round` gives a site's update of them.
        """
        return {}

    def begin_round(
        self, round_: int, received: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> Self:
        """Return the copy that trains one round at one site; `end_round` is its last call."""
        trained = copy.copy(self)
        trained.round, trained.received, trained.kept = round_, received, kept
        return trained

    def end_round(self) -> tuple[State, State]:
        """Return updates of the extra entries and what the site keeps for its next round."""
        return {}, {}

    def layers_stay(self, round_: int) -> bool:
        """Tell whether personal layers and local BatchNorm stay at the site in a round."""
        return round_ > self.shared_rounds

    def shared_parameters(
        self, module: nn.Module, *, always: bool = False
    ) -> dict[str, nn.Parameter]:
        """Return the trainable parameters, by name, that all sites share in this round.

        With `always` they are those that no site ever keeps for itself.
        """
        stay = always or self.round is None or self.layers_stay(self.round)
        local = self.local_entries(module) if stay else set()
        named = module.named_parameters()
        return {name: p for name, p in named if p.requires_grad and name not in local}

    def for_rounds(self, rounds: int) -> Self:
        """Return the algorithm of a run that has this number of rounds.

        Raises:
            ConfigError: `shared_rounds` leaves none in which layers stay at the sites.
        """
        if self.shared_rounds and self.shared_rounds >= rounds:
            raise ConfigError(
                f"Expected `algorithm.shared_rounds` to be less than `rounds`, {rounds}, but "
                f"got {self.shared_rounds}. Without `personal` and local BatchNorm all "
                "rounds are shared."
            )
        return self

    def decided(self) -> dict[str, Any]:
        """Return the arguments that `for_rounds` has decided, for the run's config.yaml."""
        return {}

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
        if not self.one_optimizer:
            return
        method, optimizers = type(self).__name__, trainer.optimizers
        if len(optimizers) > 1:
            raise ConfigError(
                f"{method} needs one optimiser for all weights, but the task has "
                f"{len(optimizers)}. Use one with several parameter groups, or FedAvg."
            )
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in optimizers):
            raise ConfigError(
                f"{method} cannot use LBFGS, which evaluates the loss repeatedly. Use SGD or Adam."
            )

    def before_batch(self, fit: LocalFit, batches: Sequence[Any]) -> None:
        """Act before Lightning's step, which will see `batches[0]` and nothing of the others."""

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Change the step's gradients in `.grad`, after AMP unscaling and before clipping."""

    def end_step(self, fit: LocalFit) -> None:
        """Clean up when a step is over, also one that was skipped or has failed."""

    def apply_mean(
        self, weights: Tensor, mean_update: Tensor, global_round: GlobalRound
    ) -> tuple[Tensor, State]:
        """Make new global weights of the mean update, shape (length,): the coordinator's half.

        w <- w + sum_k (n_k / N) (w_k - w), McMahan et al. 2017 (arXiv 1602.05629), algorithm 1;
        with `server` it takes its step where weights are trained.

        Returns:
            The weights, and what the server optimiser remembers until the next round.
        """
        if self.server is None:
            return weights + mean_update, {}
        step, memory = self.server.step(mean_update, global_round.memory)
        layout = global_round.layout
        local = layout.late if self.layers_stay(global_round.round) else ()
        trained = layout.mask({*layout.trained}.difference(local))
        return weights + torch.where(trained, step, mean_update), memory
