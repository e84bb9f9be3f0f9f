"""New global weights from the sites' updates: ask for their mean, and apply it."""

from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import Tensor

from lightning_fl.aggregation.base import Aggregator, Updates
from lightning_fl.algorithms import Algorithm, GlobalRound
from lightning_fl.coordinator.checkpoint import RunState
from lightning_fl.coordinator.plan import Plan
from lightning_fl.errors import SiteError, TooFewSitesError
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel


class Averaging:
    """The coordinator's half of the algorithm and of the aggregator, and the privacy account.

    Args:
        plan: who does what.
        layout: of the weights.
        algorithm: applies the mean update.
        aggregator: makes the mean.
        account: of differential privacy.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        algorithm: Algorithm,
        aggregator: Aggregator,
        account: PrivacyAccount,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.algorithm = algorithm
        self.aggregator = aggregator
        self.account = account
        self.samples: dict[str, int] = {}
        """Training samples of the sites that tell them."""

    def step(
        self, channel: Channel, state: RunState, samples: Mapping[str, int]
    ) -> Mapping[str, SiteError]:
        """Average the updates of the coming round and move the weights of `state`.

        Args:
            channel: to the sites.
            state: of the round before; its weights and memories are replaced.
            samples: of each site that has an update; 0 where they are hidden.

        Returns:
            The sites whose update is not in the mean, with the reason.

        Raises:
            TooFewSitesError: too few sites are left, or the mean is not finite; `state` keeps the
                weights of the round before.
        """
        if state.weights.numel() == 0:  # nothing is shared
            self._apply(state, torch.zeros(0), 0.0)
            return {}
        round_ = state.round + 1
        updates = Updates(
            round_,
            samples,
            self.layout,
            self.plan.min_sites,
            memory=state.aggregation,
            before_sum=partial(self.account.begin, round_),
        )
        try:
            outcome = self.aggregator.mean(channel, updates)
        except TooFewSitesError as error:
            raise TooFewSitesError(
                f"{error}. Round {state.round} is saved and the run can be resumed."
            ) from error
        present = {*samples} - {*outcome.lost}
        self.account.settle(len(present))
        state.aggregation = dict(outcome.memory)
        if outcome.facts:
            state.aggregations.append({"round": round_, **outcome.facts})
        if not bool(torch.isfinite(outcome.mean).all()):
            raise TooFewSitesError(
                f"The mean update of round {round_} is not finite; round {state.round} is saved."
            )
        share = self._weight(present) / self._weight(self.plan.training)
        self._apply(state, outcome.mean, share)
        return outcome.lost

    def _apply(self, state: RunState, mean: Tensor, share: float) -> None:
        """Move the weights along the mean update.

        Args:
            state: of the round before.
            mean: shape (length,).
            share: part of all training sites' weight that is in the mean.
        """
        round_ = GlobalRound(state.round + 1, self.layout, share, state.server)
        state.weights, state.server = self.algorithm.apply_mean(state.weights, mean, round_)
        state.weights = self.account.repair(state.weights)

    def _weight(self, sites: Collection[str]) -> float:
        """Return the weight of some sites together in the aggregator's mean."""
        return sum(self.aggregator.weight(self.samples.get(site, 1)) for site in sites)
