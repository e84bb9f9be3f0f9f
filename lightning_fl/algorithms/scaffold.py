"""Take each site's own drift out of its steps by control variates: SCAFFOLD."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from lightning_fl.algorithms.base import Algorithm, LocalFit
from lightning_fl.algorithms.server import GlobalRound
from lightning_fl.training.layout import State

CONTROL = "control of "
"""Stands before a weight's name in that of its control variate."""


class Scaffold(Algorithm):
    """Stochastic controlled averaging (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1).

    Site i corrects each gradient g_i(y) by the difference of two control variates, and renews its
    own, c_i, after its K local steps:

        y <- y - eta (g_i(y) - c_i + c)
        c_i+ = (1 / K) sum_k g_i(y_k)
        c <- c + (|S| / N) mean_{i in S} (c_i+ - c_i)

    The mean of the round's own uncorrected gradients is the paper's option II,
    c_i - c + (x - y) / (K eta), where the optimiser is plain SGD of a constant rate, and goes with
    any other one, such as Adam, whose steps tell no gradient. A skipped step (AMP) counts in none.

    The changes c_i+ - c_i travel behind the update in the same vector, through the same aggregator,
    and c travels with the weights: nearly double bytes both ways. The mean over sites is the
    aggregator's, and |S| / N the share of the weights; the paper's are uniform, as with `weights:
    equal`. By samples, c is the sum of (n_i / n) c_i over all sites, the gradient of the objective
    that such a mean of updates goes down.

    A site whose update is lost after it has trained leaves c short of its change.

    Layers that stay at the site (with `shared_rounds`, sooner or later) have no control variate and
    train as in FedAvg. With all of them 0, as in round 1, it is FedAvg.
    `server` acts on the weights; null is the paper's global rate 1.
    """

    one_optimizer = True
    _sums: State
    _steps: int

    def extra_entries(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Name a control variate for each weight that is always shared."""
        # entries of the vector, so that aggregator, checkpoint and resume have no case for SCAFFOLD
        shared = self.shared_parameters(module, always=True)
        return {CONTROL + name: tuple(weight.shape) for name, weight in shared.items()}

    def begin_round(
        self, round_: int, received: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> Self:
        """Return the copy that trains the round, with no gradient summed yet."""
        trained = super().begin_round(round_, received, kept)
        trained._sums, trained._steps = {}, 0
        return trained

    def before_optimizer_step(self, fit: LocalFit) -> None:
        """Sum the step's own gradients, then correct them."""
        if "controlled" not in fit.memory:
            fit.memory["controlled"] = self.shared_parameters(fit.module, always=True)
            fit.memory["shifts"] = self._shifts(fit.memory["controlled"])
        named = fit.memory["controlled"].items()
        gradients = {name: p.grad for name, p in named if p.grad is not None}
        if self.round is not None:  # a fit outside of a run ends in no round
            self._sum(gradients)
        for name, shift in fit.memory["shifts"].items():
            if name in gradients:
                gradients[name].add_(shift.to(gradients[name].dtype))

    def end_round(self) -> tuple[State, State]:
        """Return the changes of the site's control variates, and these themselves."""
        old = {name: value for name, value in self.kept.items() if name.startswith(CONTROL)}
        if not self._steps:
            return {}, old
        new = {name: torch.zeros_like(value) for name, value in old.items()}
        new |= {CONTROL + name: (total / self._steps).cpu() for name, total in self._sums.items()}
        return {name: value - old.get(name, 0.0) for name, value in new.items()}, new

    def apply_mean(
        self, weights: Tensor, mean_update: Tensor, global_round: GlobalRound
    ) -> tuple[Tensor, State]:
        """Move the weights as in FedAvg, and c by the sites' share of their mean change."""
        controls = global_round.layout.mask(global_round.layout.extra)
        mean_update = torch.where(controls, global_round.share * mean_update, mean_update)
        return super().apply_mean(weights, mean_update, global_round)

    def _sum(self, gradients: Mapping[str, Tensor]) -> None:
        finite = [torch.isfinite(gradient).all() for gradient in gradients.values()]
        if not finite or not bool(torch.stack(finite).all()):  # AMP's scaler will skip this step
            return
        self._steps += 1
        for name, gradient in gradients.items():
            if name in self._sums:
                self._sums[name] += gradient.detach()
            else:
                self._sums[name] = gradient.detach().float().clone()

    def _shifts(self, controlled: Mapping[str, nn.Parameter]) -> State:
        """Return c - c_i of each weight that has any, on the weight's device."""
        shifts = {}
        for name, weight in controlled.items():
            key, zero = CONTROL + name, torch.zeros_like(weight)
            if key in self.received or key in self.kept:
                c = self.received.get(key, zero).to(zero)
                shifts[name] = c - self.kept.get(key, zero).to(zero)
        return shifts
