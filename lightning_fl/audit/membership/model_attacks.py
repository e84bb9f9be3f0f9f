"""Membership inference on the models that a run leaves: whom were they trained on?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
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
from lightning_fl.audit.membership.shadows import AuditedPatient, train_shadow
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run_files import GLOBAL, PERSONAL
from lightning_fl.seeds import derive_seed

LOSS, LIRA = "loss threshold", "shadow models"


class AttackedModel(NamedTuple):
    """A model, and its loss of the patients that it may have been trained on.

    Attributes:
        kind: "global" or "personal".
        site: whose; "" for the model of all.
        chosen: numbers of the patients.
        losses: of each of them.
    """

    kind: str
    site: str
    chosen: list[int]
    losses: Floats


@dataclass(frozen=True)
class ModelAttacks:
    """Attacks the global model and every hospital's personal one, patient by patient.

    It needs no more than the kept models and the data, as predictions do. Members are training
    patients, non-members test patients; validation patients chose the models, so they are neither.

    Attributes:
        data: of the run, bound to no hospital.
        shadows: how many shadow models, an even number of at least 4; 0 for none.
        seed: of the run; decides the split.
    """

    data: FederatedDataModule
    shadows: int
    seed: int

    @cached_property
    def patients(self) -> list[AuditedPatient]:
        """The training and test patients of all hospitals that have both."""
        patients = []
        for site in self.data.site_names():
            split = self.data.for_site(site, self.seed).split(site)
            if split.train and split.test:
                patients += [AuditedPatient(site, name, True) for name in split.train]
                patients += [AuditedPatient(site, name, False) for name in split.test]
        return patients

    def attack(self, run: FinishedRun) -> list[ModelInference]:
        """Attack every model that the run has, by each attack."""
        models = list(self._models(run))
        results = [self._judged(model, LOSS, self._by_loss(model)) for model in models]
        if self.shadows and models:
            losses, inside = self.shadow_losses(run)
            for model in models:
                chosen = model.chosen
                scores = offline_scores(model.losses, losses[:, chosen], inside[:, chosen])
                results.append(self._judged(model, LIRA, scores))
        return results

    def shadow_losses(self, run: FinishedRun) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the patients' losses by shadow models that saw half of them, and which half."""
        inside = halves(len(self.patients), self.shadows, derive_seed(self.seed, "halves"))
        losses = []
        for number, members in enumerate(inside):
            chosen = [self.patients[i] for i in np.flatnonzero(members).tolist()]
            seed = derive_seed(self.seed, "shadow", number)
            module = train_shadow(run, self.data, chosen, seed=seed, split_seed=self.seed)
            losses.append(self._losses(module, range(len(self.patients)), chosen))
        return np.stack(losses), inside

    def _models(self, run: FinishedRun) -> Iterator[AttackedModel]:
        numbers: dict[str, list[int]] = {}
        for number, patient in enumerate(self.patients):
            numbers.setdefault(patient.site, []).append(number)
        trained = [s for s in self.data.training_sites() if s in numbers and run.has(s, GLOBAL)]
        if trained:
            # A site that has layers of its own in the shared model is attacked with these.
            parts = [self._losses(run.model(s, GLOBAL), numbers[s]) for s in trained]
            chosen = [i for site in trained for i in numbers[site]]
            yield AttackedModel(GLOBAL, "", chosen, np.concatenate(parts))
        for site, chosen in numbers.items():
            if run.has(site, PERSONAL):
                losses = self._losses(run.model(site, PERSONAL), chosen)
                yield AttackedModel(PERSONAL, site, chosen, losses)

    def _losses(
        self,
        module: pl.LightningModule,
        chosen: Sequence[int],
        members: Sequence[AuditedPatient] | None = None,
    ) -> Floats:
        """Return the losses of some patients; a shadow model has seen `members` alone."""
        losses: list[float] = []
        for site, patients in groupby((self.patients[i] for i in chosen), lambda p: p.site):
            bound = self.data.for_site(site, self.seed)
            if members is not None:
                bound = bound.for_patients([p.patient for p in members if p.site == site])
            losses += patient_losses(module, bound, [p.patient for p in patients]).values()
        return np.array(losses)

    def _by_loss(self, model: AttackedModel) -> Floats:
        """Score by loss; an attacker who knows the hospitals compares inside of each."""
        sites = [self.patients[i].site for i in model.chosen]
        return ranks_within(loss_threshold_scores(model.losses), sites)

    def _judged(self, model: AttackedModel, attack: str, scores: Floats) -> ModelInference:
        members = np.array([self.patients[i].member for i in model.chosen])
        seed = derive_seed(self.seed, "membership", model.kind, model.site, attack)
        result = inference(scores[members], scores[~members], seed=seed)
        return ModelInference(model.kind, model.site, attack, result)
