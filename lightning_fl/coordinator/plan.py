"""Who does what in a run."""

from dataclasses import dataclass

import numpy as np

from lightning_fl.seeds import derive_seed


@dataclass(frozen=True)
class Plan:
    """Who does what in a run.

    Attributes:
        training: sites that train (the pooled site, where the algorithm pools data).
        evaluating: sites whose validation data choose the best round.
        unseen: sites that only personalise the outcome.
        rounds: how many rounds to train.
        sites_per_round: how many training sites are drawn for a round.
        min_sites: fewer updates than this stop the run, saved, instead of averaging what is left.
        seed: of the run.
    """

    training: tuple[str, ...]
    evaluating: tuple[str, ...]
    unseen: tuple[str, ...]
    rounds: int
    sites_per_round: int
    min_sites: int
    seed: int

    @property
    def everyone(self) -> tuple[str, ...]:
        """All sites, in alphabetical order."""
        return tuple(sorted({*self.training, *self.evaluating, *self.unseen}))

    def chosen(self, round_: int) -> tuple[str, ...]:
        """Return the sites that train in a round, which the seed and the round alone decide."""
        names = sorted(self.training)
        generator = np.random.default_rng(derive_seed(self.seed, round_, "sites"))
        picked = generator.choice(len(names), size=self.sites_per_round, replace=False)
        return tuple(names[i] for i in sorted(picked))
