"""One site's data and stored state, and the models that are made of them."""

import copy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.personalisation.workbench import LocalTask
from lightning_fl.privacy.budget import Budget
from lightning_fl.seeds import derive_seed
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.store import SECOND, SiteStore
from lightning_fl.training.layout import State, from_vector, to_vector

SITE_RELEASES = "site_privacy.json"
"""Under site-level privacy, what the site has released, in its folder."""


class LocalState:
    """What a round, the ring and the final evaluation use of a site.

    Args:
        name: of the hospital.
        setup: what all sites of the run share.
        data: bound to this hospital.
        store: the site's folder.
    """

    def __init__(
        self, name: str, setup: SiteSetup, data: FederatedDataModule, store: SiteStore
    ) -> None:
        self.name = name
        self.setup = setup
        self.data = data
        self.store = store
        self.layout = setup.layout

    @property
    def task(self) -> LocalTask:
        """The site's data and settings, as personalisation uses them."""
        setup = self.setup
        return LocalTask(
            self.name,
            template=setup.template,
            data=self.data,
            trainer=setup.trainer,
            evaluation=setup.evaluation,
            batch_norm=setup.algorithm.batch_norm,
            seed=setup.seed,
        )

    @property
    def folder(self) -> Path:
        """The folder for what has to survive a restart."""
        return self.store.folder

    @property
    def least_sites(self) -> int:
        """The fewest sites of a sum that this site takes part in."""
        return self.setup.terms.least_sites

    def budget(self, file: str) -> Budget:
        """Return the account of the site's releases of one kind, in a file of its folder."""
        terms = self.setup.terms
        return Budget(self.store.folder / file, terms.epsilon, terms.runs, terms.delta)

    def count_release(self, noise_multiplier: float) -> None:
        """Count an update with noise that is about to be released in a sum.

        Raises:
            ConfigError: the hospital's privacy budget does not suffice.
        """
        self.budget(SITE_RELEASES).spend((noise_multiplier, 1.0, 1))

    def check_first_release(self, noise_multiplier: float) -> None:
        """Refuse a run whose first update with noise is more than the hospital's budget.

        Raises:
            ConfigError: the hospital's privacy budget does not suffice.
        """
        self.budget(SITE_RELEASES).check_first((noise_multiplier, 1.0, 1))

    def origin(self, round_: int) -> str:
        """Return the digest of the weights that the update of a round was trained from."""
        return self.store.origin(round_)

    def is_drawn(self, site: str, round_: int) -> bool:
        """Return whether a site may train in a round."""
        return self.setup.drawn is None or site in self.setup.drawn(round_)

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """Return a part of the site's update of a round, shape (stop - start,)."""
        return self.store.update(round_, start, stop)

    def samples(self) -> int:
        """Return the number of the site's training samples."""
        return self.data.sample_count("train")

    def carry(self, round_: int) -> Tensor | None:
        """Return what updates up to a round left out, shape (length,); None for nothing.

        The carry of layers that stay at the site by now is 0. Each of their updates starts from the
        global weights and is complete.
        """
        carry = self.store.carry(round_)
        private, _ = self.store.private(round_)
        sent_whole = not private.keys().isdisjoint(self.layout.late)
        if carry is None or not (sent_whole or self.setup.algorithm.layers_stay(round_ + 1)):
            return carry
        left_out = from_vector(carry, self.layout)
        return to_vector(left_out | {n: left_out[n] * 0 for n in self.layout.late}, self.layout)

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what the update of a round left out."""
        self.store.save_carry(round_, carry)

    def module(self, round_: int) -> pl.LightningModule:
        """Return a copy of the template with the global weights and private state of a round.

        Raises:
            ValueError: the stored weights belong to another round.
        """
        module = copy.deepcopy(self.setup.template)
        state: State = from_vector(self.store.weights(round_), self.layout)
        private, _ = self.store.private(round_)
        module.load_state_dict(state | private, strict=False)
        return module

    def averaged_module(self, round_: int) -> pl.LightningModule | None:
        """Return the model with the mean over sites of layers that have turned local since.

        Returns:
            None where there are no such layers. Then the model is `module`.

        Raises:
            ValueError: the stored weights belong to another round.
        """
        private, _ = self.store.private(round_)
        if private.keys().isdisjoint(self.layout.late):
            return None
        module = self.module(round_)
        module.load_state_dict(from_vector(self.store.weights(round_), self.layout), strict=False)
        return module

    def personal_module(self, round_: int) -> pl.LightningModule:
        """Return the model that personalisation starts from: the second one where there is one.

        Raises:
            ValueError: the stored weights belong to another round.
        """
        module = self.module(round_)
        if self.setup.algorithm.second is not None:
            second, _ = self.store.private(round_, model=SECOND)
            module.load_state_dict(second, strict=False)  # empty where the site never trained
        return module

    def train_loader(self, purpose: str, round_: int, *, batches: int) -> DataLoader[Any]:
        """Return training batches in an order that (seed, site, round, purpose) decide."""
        seed = derive_seed(self.setup.seed, self.name, round_, purpose)
        return self.data.train_loader(seed=seed, batches_per_step=batches)
