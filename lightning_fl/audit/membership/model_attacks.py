"""Membership inference on the models that a run leaves: whom were they trained on?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from lightning_fl.audit.membership.inference import (
    Floats,
    inference,
    loss_threshold_scores,
    ranks_within,
)
from lightning_fl.audit.membership.lira import halves, offline_scores
from lightning_fl.audit.membership.model_inference import ModelInference
from lightning_fl.audit.membership.sample_losses import patient_losses
from lightning_fl.audit.membership.shadows import Candidate, train_shadow
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run_files import GLOBAL, PERSONAL
from lightning_fl.seeds import derive_seed

LOSS, LIRA = "loss threshold", "shadow models"


class Target(NamedTuple):
    """An attacked model.

    Attributes:
        kind: "global" or "personal".
        site: whose; "" for the model of all.
        chosen: numbers of the candidates that may have been its training patients.
        losses: its loss of each of them.
    """

    kind: str
    site: str
    chosen: list[int]
    losses: Floats


@dataclass(frozen=True)
class ModelAttacks:
    """Attacks the global model and every hospital's personal one, patient by patient.

    Members are training patients, non-members test patients; validation patients chose the models,
    so they are neither.

    Attributes:
        data: of the run, bound to no hospital.
        shadows: how many shadow models, an even number of at least 4; 0 for none.
        seed: of the run; decides the split.
    """

    data: FederatedDataModule
    shadows: int
    seed: int

    def attack(self, run: FinishedRun) -> list[ModelInference]:
        """Every model that the run has, by each attack."""
        candidates = self.candidates()
        targets = list(self._targets(run, candidates))
        found = [
            self._judged(one, LOSS, self._by_loss(one, candidates), candidates) for one in targets
        ]
        if not self.shadows or not targets:
            return found
        losses, inside = self.shadow_losses(run, candidates)
        for one in targets:
            scores = offline_scores(one.losses, losses[:, one.chosen], inside[:, one.chosen])
            found.append(self._judged(one, LIRA, scores, candidates))
        return found

    def candidates(self) -> list[Candidate]:
        """The training and test patients of all hospitals that have both."""
        found = []
        for site in self.data.site_names():
            split = self.data.for_site(site, self.seed).split(site)
            if split.train and split.test:
                found += [Candidate(site, patient, True) for patient in split.train]
                found += [Candidate(site, patient, False) for patient in split.test]
        return found

    def shadow_losses(
        self, run: FinishedRun, candidates: Sequence[Candidate]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Losses of the candidates by shadow models that saw half of them, and which half."""
        inside = halves(len(candidates), self.shadows, derive_seed(self.seed, "halves"))
        losses = []
        for number, members in enumerate(inside):
            chosen = [candidates[i] for i in np.flatnonzero(members).tolist()]
            seed = derive_seed(self.seed, "shadow", number)
            module = train_shadow(run, self.data, chosen, seed=seed, split_seed=self.seed)
            losses.append(self._losses(module, candidates))
        return np.stack(losses), inside

    def _targets(self, run: FinishedRun, candidates: Sequence[Candidate]) -> Iterator[Target]:
        sites = list(dict.fromkeys(one.site for one in candidates))
        numbers = {s: [i for i, one in enumerate(candidates) if one.site == s] for s in sites}
        trained = [s for s in self.data.training_sites() if s in numbers and run.has(s, GLOBAL)]
        if trained:
            # A site that has layers of its own in the shared model is attacked with these.
            parts = [self._of_site(run, s, GLOBAL, candidates, numbers[s]) for s in trained]
            chosen = [i for site in trained for i in numbers[site]]
            yield Target(GLOBAL, "", chosen, np.concatenate(parts))
        for site in sites:
            if run.has(site, PERSONAL):
                losses = self._of_site(run, site, PERSONAL, candidates, numbers[site])
                yield Target(PERSONAL, site, numbers[site], losses)

    def _of_site(
        self,
        run: FinishedRun,
        site: str,
        kind: str,
        candidates: Sequence[Candidate],
        chosen: Sequence[int],
    ) -> Floats:
        return self._losses(run.model(site, kind), [candidates[i] for i in chosen])

    def _losses(self, module: pl.LightningModule, candidates: Sequence[Candidate]) -> Floats:
        found = []
        for one in candidates:
            bound = self.data.for_site(one.site, self.seed)
            found.append(patient_losses(module, bound, [one.patient])[one.patient])
        return np.array(found)

    def _by_loss(self, target: Target, candidates: Sequence[Candidate]) -> Floats:
        """Scores by loss; an attacker who knows the hospitals compares inside of each."""
        sites = [candidates[number].site for number in target.chosen]
        return ranks_within(loss_threshold_scores(target.losses), sites)

    def _judged(
        self, target: Target, attack: str, scores: Floats, candidates: Sequence[Candidate]
    ) -> ModelInference:
        members = np.array([candidates[i].member for i in target.chosen])
        seed = derive_seed(self.seed, "membership", target.kind, target.site, attack)
        found = inference(scores[members], scores[~members], seed=seed)
        return ModelInference(target.kind, target.site, attack, found)
