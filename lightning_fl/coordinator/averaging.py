"""New global weights from the sites' updates: ask for their mean, and apply it."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
from torch import Tensor

from lightning_fl.aggregation.base import Aggregator, Updates
from lightning_fl.algorithms import Algorithm, GlobalRound
from lightning_fl.coordinator.checkpoint import RunState
from lightning_fl.coordinator.plan import Plan
from lightning_fl.errors import SiteError, TooFewSitesError
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.privacy.variances import as_they_are
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
        repair: makes weights usable that privacy's noise has spoiled.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        algorithm: Algorithm,
        aggregator: Aggregator,
        account: PrivacyAccount,
        repair: Callable[[Tensor], Tensor] = as_they_are,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.algorithm = algorithm
        self.aggregator = aggregator
        self.account = account
        self.repair = repair
        self.samples: dict[str, int] = {}
        """Training samples of the sites that tell them."""

    def ask(
        self, channel: Channel, state: RunState, samples: Mapping[str, int]
    ) -> Mapping[str, SiteError]:
        """Average the updates of the coming round into `state.mean` and `state.outcome`.

        Args:
            channel: to the sites.
            state: of the round before.
            samples: of each site that has an update; 0 where they are hidden.

        Returns:
            The sites whose update is not in the mean, with the reason.

        Raises:
            TooFewSitesError: too few sites are left, or the mean is not finite; `state` keeps the
                weights of the round before.
        """
        if state.weights.numel() == 0:  # nothing is shared
            state.outcome = {}
            return {}
        round_ = state.round + 1
        updates = Updates(
            round_,
            samples,
            self.layout,
            self.plan.min_sites,
            memory=state.aggregation,
            share=self._share,
            before_sum=partial(self.account.begin, round_),
        )
        try:
            aggregate = self.aggregator.mean(channel, updates)
        except TooFewSitesError as error:
            raise TooFewSitesError(
                f"{error}. Round {state.round} is saved and the run can be resumed."
            ) from error
        present = {*samples} - {*aggregate.lost}
        self.account.settle(len(present))
        state.aggregation = dict(aggregate.memory)
        if aggregate.facts:
            state.aggregations.append({"round": round_, **aggregate.facts})
        if not bool(torch.isfinite(aggregate.mean).all()):
            raise TooFewSitesError(
                f"The mean update of round {round_} is not finite; round {state.round} is saved."
            )
        state.mean = aggregate.mean
        state.outcome = {"share": self._share(present), "proof": dict(aggregate.proof)}
        return aggregate.lost

    def apply(self, state: RunState) -> None:
        """Move the weights of `state` along its mean, as every site does."""
        if state.mean is not None and state.outcome is not None:
            share = state.outcome["share"]
            round_ = GlobalRound(state.round + 1, self.layout, share, state.server)
            state.weights, state.server = self.algorithm.apply_mean(
                state.weights, state.mean, round_
            )
            state.weights = self.repair(state.weights)
        state.round += 1
        state.mean = state.outcome = None

    def _share(self, sites: Collection[str]) -> float:
        """Return the part of all training sites' weight that some sites have together."""
        return float(self._weight(sites) / self._weight(self.plan.training))

    def _weight(self, sites: Collection[str]) -> float:
        """Return the weight of some sites together in the aggregator's mean."""
        return sum(self.aggregator.weight(self.samples.get(site, 1)) for site in sites)
