"""The trials of an audit: several images for each of several first weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_fl.audit.trials import Attack, Candidates, Shown, TrialRow
from lightning_fl.errors import DataError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.seeds import derive_seed

Pictures = Mapping[str, Shown]
"""Of one trial, by view."""


@dataclass(frozen=True)
class TrialSeries:
    """All trials, those with the run's own first weights first.

    Attributes:
        attack: on one round, with the run's first weights.
        candidates: the images.
        seeds: how many first weights.
        trials: for each of them.
    """

    attack: Attack
    candidates: Candidates
    seeds: int
    trials: int

    def __len__(self) -> int:
        """How many trials there are in all."""
        return self.seeds * self.trials

    def play(self, run: FinishedRun) -> Iterator[tuple[list[TrialRow], Pictures]]:
        """One trial after the other, seed by seed.

        Args:
            run: whose settings give the task anew.

        Raises:
            DataError: an update is zero or not finite; names the trial.
        """
        for number in range(self.seeds):
            attack = self._attack(run, number)
            for trial in range(self.trials):
                seed = derive_seed(self._seed, "audit", number * self.trials + trial)
                try:
                    found = attack.trial(trial, self.candidates, self._drawn(seed), seed=seed)
                except DataError as error:
                    raise DataError(
                        f"Trial {trial + 1} with the first weights of seed {attack.weights_seed}: "
                        f"{error}"
                    ) from error
                yield found

    def facts(self) -> dict[str, Any]:
        """What a reader of the results has to know of the images and of the task."""
        count = len(self.candidates.images)
        common = int(self.candidates.labels.bincount().max()) / count
        return {"candidates": count, "common_label": common, "lr": self.attack.lr}

    def pictures(self, shown: Sequence[Pictures], count: int) -> dict[str, Tensor]:
        """By view, true images and reconstructions, (count, C, H, W): of each seed in turn."""
        in_turn = sorted(range(len(shown)), key=lambda number: number % self.trials)[:count]
        return _stacked([shown[number] for number in in_turn])

    @property
    def _seed(self) -> int:
        return self.attack.weights_seed

    def _attack(self, run: FinishedRun, number: int) -> Attack:
        if number == 0:
            return self.attack
        seed = self._seed + number
        return replace(self.attack, template=run.fresh_task(seed), weights_seed=seed)

    def _drawn(self, seed: int) -> list[int]:
        """Numbers of the images of a trial's sites."""
        order = np.random.default_rng(seed).permutation(len(self.candidates.images))
        drawn: list[int] = order[: self.attack.sites_needed].tolist()
        return drawn


def _stacked(shown: Sequence[Pictures]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for view in shown[0] if shown else ():
        found[f"{view}/truth"] = torch.stack([pictures[view].truth for pictures in shown])
        found[f"{view}/found"] = torch.stack([pictures[view].found for pictures in shown]).float()
    return found
