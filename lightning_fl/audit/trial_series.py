"""The trials of an audit: several images for each of several first weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lightning_fl.audit.trials import Pictures, TrialAttack, TrialRow
from lightning_fl.errors import DataError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.seeds import derive_seed
from lightning_fl.training.lazy_layers import with_lazy_layers_built


@dataclass(frozen=True)
class TrialSeries:
    """All trials of an audit, those with the run's own first weights first.

    Attributes:
        attack: with the run's first weights.
    """

    attack: TrialAttack

    def __len__(self) -> int:
        """Return the number of trials in all."""
        return self.attack.settings.seeds * self.attack.settings.trials

    def play(self, run: FinishedRun) -> Iterator[tuple[list[TrialRow], Pictures]]:
        """Play one trial after the other, seed by seed; the run's settings give the task anew.

        Raises:
            DataError: an update is zero or not finite; names the trial.
        """
        settings, first = self.attack.settings, self.attack.weights_seed
        for weights in range(settings.seeds):
            attack = self._attack(run, weights)
            for trial in range(settings.trials):
                seed = derive_seed(first, "audit", weights * settings.trials + trial)
                try:
                    result = attack.trial(trial, self._drawn(seed), seed=seed)
                except DataError as error:
                    raise DataError(
                        f"Trial {trial + 1} with the first weights of seed {attack.weights_seed}: "
                        f"{error}"
                    ) from error
                yield result

    def pictures(self, shown: Sequence[Pictures]) -> dict[str, Tensor]:
        """Stack true images and reconstructions by view, (count, C, H, W): of each seed in turn."""
        settings = self.attack.settings
        in_turn = sorted(range(len(shown)), key=lambda number: number % settings.trials)
        kept = [shown[number] for number in in_turn[: settings.pictures]]
        tensors: dict[str, Tensor] = {}
        for view in kept[0] if kept else ():
            pairs = [pictures[view] for pictures in kept]
            tensors[f"{view}/truth"] = torch.stack([pair.truth for pair in pairs])
            tensors[f"{view}/found"] = torch.stack([pair.reconstruction for pair in pairs]).float()
        return tensors

    def _attack(self, run: FinishedRun, number: int) -> TrialAttack:
        if number == 0:
            return self.attack
        # Before a run, and with --validate, its settings are in no file yet, so the checks of an
        # audit see the run's own first weights alone.
        seed = self.attack.weights_seed + number
        images = self.attack.images
        batches = [{"image": images.images[:1], "label": images.labels[:1]}]
        template = with_lazy_layers_built(run.fresh_task(seed), batches, seed)
        return replace(self.attack, template=template, weights_seed=seed)

    def _drawn(self, seed: int) -> list[int]:
        """Draw the images of a trial's sites, by number."""
        order = np.random.default_rng(seed).permutation(len(self.attack.images))
        drawn: list[int] = order[: self.attack.sites_needed].tolist()
        return drawn
