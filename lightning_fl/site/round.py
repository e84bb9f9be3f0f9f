"""A round of training at one site: its model, its second one if it has one, and the update."""

import copy
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.algorithms import Algorithm
from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.errors import NonFiniteError
from lightning_fl.privacy.sample_level import FILE
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site.local_state import LocalState
from lightning_fl.site.store import SECOND
from lightning_fl.training.curves import TrainingCurves
from lightning_fl.training.fitting import CountGradients, fit
from lightning_fl.training.layout import (
    State,
    from_vector,
    private_entries,
    to_vector,
    vector_digest,
)
from lightning_fl.training.progress import Progress
from lightning_fl.training.state_checks import is_finite
from lightning_fl.wire.operations import Answer, fixed_width


class LocalRound:
    """Trains one round from the global weights and the private state of the round before.

    Args:
        state: of the site.
        round_: of the run.
    """

    def __init__(self, state: LocalState, round_: int) -> None:
        self.state = state
        self.round = round_

    def run(self, keep: Sequence[int]) -> Answer:
        """Train; the update and the private state stay at the site.

        Args:
            keep: rounds whose private states may be needed again; older ones are deleted.

        Returns:
            How many samples there are, how many gradients were computed and, where they are
            shared, training curves. It is nothing where samples are hidden.

        Raises:
            NonFiniteError: training has diverged.
        """
        state, store, layout = self.state, self.state.store, self.state.layout
        store.forget([self.round - 2, self.round - 1, *(k for k in keep if k < self.round)])
        weights = store.weights(self.round - 1)
        received = from_vector(weights, layout)
        module = state.module(self.round - 1)
        before = self._before(module, received)
        kept, progress = store.private(self.round - 1)
        algorithm = state.setup.algorithm.begin_round(self.round, received, kept)
        count, curves = CountGradients(), TrainingCurves()
        watching = [count, curves] if state.setup.shares_curves else [count]
        after = self._fit(module, algorithm, "train", progress, watching)
        if algorithm.second is not None:
            self._train_second(algorithm.second.begin_round(self.round, received, {}))
        extra, keeps = algorithm.end_round()
        entries = module.state_dict()
        private = private_entries(entries, layout, late=algorithm.layers_stay(self.round))
        store.save_private(self.round, private | keeps, after)
        update = to_vector(entries | extra, layout) - before
        store.save_update(self.round, update, vector_digest(weights))
        if state.setup.aggregator.hides_samples:  # with `local_epochs`, steps tell the samples
            return Answer({}, {})
        gradients = count.gradients * algorithm.gradients_per_step
        info = {"samples": state.samples(), "gradients": gradients} | self._privacy()
        if state.setup.shares_curves:
            info |= {"curves": curves.values, "seconds": {"fit": fixed_width(curves.seconds)}}
        return Answer(info, {})

    def _before(self, module: pl.LightningModule, received: State) -> Tensor:
        """Return the weights that an update is counted from, shape (length,).

        These are the weights that training starts from. Layers of which the site has its own values
        count from the global weights, so that the mean of all updates leads to the mean of the
        sites' values.
        """
        late = {name: received[name] for name in self.state.layout.late}
        return to_vector(module.state_dict() | late, self.state.layout)

    def _train_second(self, algorithm: Algorithm) -> None:
        """Train the site's own second model on from where it stands."""
        store = self.state.store
        module = self.state.personal_module(self.round - 1)
        _, progress = store.private(self.round - 1, model=SECOND)
        after = self._fit(module, algorithm, "train second", progress)
        store.save_private(self.round, dict(module.state_dict()), after, model=SECOND)

    def _fit(
        self,
        module: pl.LightningModule,
        algorithm: Algorithm,
        purpose: str,
        progress: Progress,
        watching: Sequence[pl.Callback] = (),
    ) -> Progress:
        """Train a model for a round, in place."""
        state, setup = self.state, self.state.setup
        seed_all(derive_seed(setup.seed, state.name, self.round, purpose))
        loader = state.train_loader(purpose, self.round, batches=algorithm.batches_per_step)
        user_callbacks = copy.deepcopy(list(setup.callbacks))
        callbacks: list[pl.Callback] = [FederatedCallback(algorithm), *user_callbacks, *watching]
        if setup.privacy is not None:
            loader, private = setup.privacy.begin(state.budget(FILE), loader)
            callbacks.insert(0, private)
        after, logged = fit(module, loader, callbacks, setup.trainer, progress)
        if not is_finite(module):
            raise NonFiniteError(
                f"training of round {self.round} gave weights that are NaN or infinite; the last "
                f"logged values were {logged}"
            )
        return after

    def _privacy(self) -> dict[str, Any]:
        """Return the budget that the coordinator hears of, with sample-level privacy."""
        privacy = self.state.setup.privacy
        return {} if privacy is None else {"privacy": privacy.spent(self.state.budget(FILE))}
