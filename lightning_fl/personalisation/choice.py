"""One site's personalisation: make the variants, score them, let the guard choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from lightning_fl.personalisation.candidate import Variant
from lightning_fl.personalisation.guard import choose, patient_mean
from lightning_fl.personalisation.local_task import LocalTask
from lightning_fl.personalisation.settings import Personalisation
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.training.fitting import evaluate
from lightning_fl.training.layout import is_finite


@dataclass(frozen=True)
class Choice:
    """What a site chose.

    Attributes:
        variant: the one it uses.
        variants: all there were.
        scores: on the data that the choice was made by, of every variant.
        by: "validation" or "cross-validation".
        gradients: forward-backward passes that personalising took.
        finetuned: the model after plain fine-tuning of all weights, unguarded, or None.
    """

    variant: Variant
    variants: Sequence[Variant]
    scores: dict[str, float]
    by: str
    gradients: int
    finetuned: pl.LightningModule | None

    def summary(self) -> dict[str, Any]:
        """What results.json says of it."""
        chosen = self.variant
        return {
            "choice": chosen.name,
            **({"members": list(chosen.members)} if chosen.members else {}),
            "steps": chosen.steps,
            "validation_gain": self.scores[chosen.name] - next(iter(self.scores.values())),
            "gradients": self.gradients,
            "by": self.by,
            "candidates": self.scores,
        }


def references(
    came: pl.LightningModule,
    own: pl.LightningModule,
    averaged: pl.LightningModule | None = None,
) -> list[Variant]:
    """The models that a site has without personalising.

    Args:
        came: the model as it came out of the federation.
        own: what personalisation starts from; the same object where that is the model as it came.
        averaged: the model whose layers all are means over the sites, where `came` has some of
            the site's own; see `LocalState.averaged_module`.
    """
    found = [Variant("none", came, is_reference=True)]
    if averaged is not None:
        found.append(Variant("averaged", averaged, is_reference=True))
    if own is not came:
        found.append(Variant("own", own, is_reference=True))
    return found


def personalise(
    task: LocalTask,
    settings: Personalisation,
    came: pl.LightningModule,
    own: pl.LightningModule,
    averaged: pl.LightningModule | None = None,
) -> Choice:
    """Make a site's variants of a model and choose one by data that they were not fitted to.

    Args:
        task: of the site.
        settings: of the run's personalisation.
        came: the model as it came out of the federation.
        own: what personalisation starts from, see `references`.
        averaged: see `references`.
    """
    split = task.data.split(task.name)
    few = len(split.val) < settings.few and len(split.train) > 1
    folds = split_folds(split.train, settings.folds) if few else []
    without = references(came, own, averaged)
    return choose_by(task, settings, own, without, split.train, split.val, folds)


def choose_by(
    task: LocalTask,
    settings: Personalisation,
    start: pl.LightningModule,
    without: Sequence[Variant],
    train: Sequence[str],
    val: Sequence[str],
    folds: Sequence[Sequence[str]],
) -> Choice:
    """Personalise on some patients and choose by validation patients, folds, or both.

    In cross-validation each fold of the training patients is scored by variants fitted to the
    others, from the same start; the validation patients, as one more fold, by the variants fitted
    to all. The metric pools the pixels of one fold, not of several, for each has its own model;
    so what is compared is the mean over the folds, weighted by patients. The site uses the
    variant fitted to all. The start has seen the held-out patients in the federation, if the site
    trained: the start's own score is flattered, and the guard then errs towards keeping it.

    Args:
        task: of the site.
        settings: of the run's personalisation.
        start: what is personalised.
        without: the models it has without personalising.
        train: patients that may be fitted to.
        val: patients to validate on.
        folds: parts of `train`; none for plain validation.
    """
    start_name = next(v.name for v in without if v.module is start)
    bench = Workbench(task, start, train, start_name)
    variants = [*without, *settings.variants(bench)]
    parts = [(len(val), _scores(task, variants, val))] if val else []
    gradients = bench.gradients
    for fold in folds:
        others = Workbench(task, start, [p for p in train if p not in fold], start_name)
        fitted = [*without, *settings.variants(others)]
        parts.append((len(fold), _scores(task, fitted, fold)))
        gradients += others.gradients
    scores = {v.name: patient_mean([(n, found[v.name]) for n, found in parts]) for v in variants}
    names = [v.name for v in variants if v.is_reference]
    name = choose(scores, names, settings.margin, task.evaluation)
    [chosen] = [v for v in variants if v.name == name]
    finetuned = bench.finetuned[max(bench.finetuned)] if bench.finetuned else None
    by = "cross-validation" if folds else "validation"
    return Choice(chosen, variants, scores, by, gradients, finetuned)


def split_folds(patients: Sequence[str], folds: int) -> list[tuple[str, ...]]:
    """Cut patients, shuffled as they are, into parts whose sizes differ by one at most."""
    count = min(folds, len(patients))
    return [tuple(patients[i::count]) for i in range(count)]


def _scores(
    task: LocalTask, variants: Sequence[Variant], patients: Sequence[str]
) -> dict[str, float]:
    return {variant.name: score(task, variant.module, patients) for variant in variants}


def score(task: LocalTask, module: pl.LightningModule, patients: Sequence[str]) -> float:
    """The run's metric of a model on some patients; NaN for weights that are not finite."""
    if not is_finite(module.state_dict()):  # NaN may look like an empty mask, which can score 1
        return float("nan")
    metrics = evaluate(module, task.data.patient_loader(patients), "val", task.trainer)
    return metrics[task.evaluation.metric]
