"""One site's personalisation: make the variants, score them, let the guard choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from lightning_fl.personalisation.candidate import Variant
from lightning_fl.personalisation.guard import choose, means_over_folds
from lightning_fl.personalisation.settings import Personalisation
from lightning_fl.personalisation.workbench import LocalTask, Workbench
from lightning_fl.training.fitting import evaluate
from lightning_fl.training.state_checks import is_finite

Curve = dict[str, dict[str, float]]
"""Test metrics by number of patients, as text; "0" is the global model as it came."""


@dataclass(frozen=True)
class Choice:
    """Hold what a site chose.

    Attributes:
        variant: the one that the site uses.
        variants: all that it could choose from.
        scores: of every variant, on the data that the choice was made by.
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
        """Return what results.json says of the choice."""
        chosen = self.variant
        return {
            "choice": chosen.name,
            **({"members": list(chosen.members)} if chosen.members else {}),
            "steps": chosen.steps,
            "validation_gain": self.scores[chosen.name] - self.scores["none"],
            "gradients": self.gradients,
            "by": self.by,
            "candidates": self.scores,
        }


def personalise(
    task: LocalTask,
    settings: Personalisation,
    shared: pl.LightningModule,
    start: pl.LightningModule,
    averaged: pl.LightningModule | None = None,
) -> Choice:
    """Make variants of a site's model and choose one by data that they were not fitted to.

    Args:
        task: of the site.
        settings: of the run.
        shared: the model as it came out of the federation.
        start: what personalisation starts from: `shared`, or a model of the site's own.
        averaged: the model whose layers are all means over the sites, where `shared` has layers of
            the site's own; see `LocalState.averaged_module`.
    """
    without = [Variant("none", shared, is_reference=True)]
    if averaged is not None:
        without.append(Variant("averaged", averaged, is_reference=True))
    if start is not shared:
        without.append(Variant("own", start, is_reference=True))
    split = task.data.split(task.name)
    few = len(split.val) < settings.few and len(split.train) > 1
    folds = split_folds(split.train, settings.folds) if few else []
    return _choose_by(task, settings, start, without, split.train, split.val, folds)


def _choose_by(
    task: LocalTask,
    settings: Personalisation,
    start: pl.LightningModule,
    without: Sequence[Variant],
    train: Sequence[str],
    val: Sequence[str],
    folds: Sequence[Sequence[str]],
) -> Choice:
    """Personalise on some patients and choose by validation patients, folds, or both.

    In cross-validation each fold of the training patients is scored by variants that were fitted to
    the others. The validation patients are one more fold, scored by the variants fitted to all. The
    site uses the variant fitted to all.

    The metric is taken fold by fold, since each fold has a model of its own. What is compared is
    the mean over the folds, weighted by patients. If the site trained, the start model has seen the
    held-out patients, so its score is flattered: the guard errs towards keeping it.

    `without` are the models that the site has without personalising, and `start` is one of them.
    The folds are parts of `train`; there are none for plain validation.
    """
    start_name = next(variant.name for variant in without if variant.module is start)
    bench = Workbench(task, start, train, start_name)
    variants = [*without, *settings.variants(bench)]
    parts = [(len(val), _scores(bench.task, variants, val))] if val else []
    gradients = bench.gradients
    for fold in folds:
        others = Workbench(task, start, [p for p in train if p not in fold], start_name)
        parts.append(
            (len(fold), _scores(others.task, [*without, *settings.variants(others)], fold))
        )
        gradients += others.gradients
    scores = means_over_folds(parts)
    bars = [variant.name for variant in variants if variant.is_reference]
    name = choose(scores, bars, settings.margin, task.evaluation)
    [chosen] = [variant for variant in variants if variant.name == name]
    finetuned = bench.finetuned[max(bench.finetuned)] if bench.finetuned else None
    by = "cross-validation" if folds else "validation"
    return Choice(chosen, variants, scores, by, gradients, finetuned)


def patients_curve(task: LocalTask, settings: Personalisation, shared: pl.LightningModule) -> Curve:
    """Test the global model personalised on a site's first k patients, k in `settings.patients`.

    Test images are prepared by what these k patients tell, and by none of the others.
    """
    models = {0: shared}
    for count in sorted(set(settings.patients)):
        models[count] = _personalised_on(task, settings, shared, count)
    curve: Curve = {}
    for count, model in models.items():
        data = task.data.for_patients(task.data.split(task.name).train[:count])
        curve[str(count)] = evaluate(model, data.loader("test"), "test", task.trainer)
    return curve


def _personalised_on(
    task: LocalTask, settings: Personalisation, shared: pl.LightningModule, count: int
) -> pl.LightningModule:
    """Personalise the global model with `count` of a hospital's patients and no others.

    With two patients or more the guard chooses by cross-validation among them; the model has seen
    none of them before. With one patient there is nothing to choose by, so the rule is fixed:
    BatchNorm is re-estimated, whatever the candidates are, since that takes no gradient.
    """
    patients = task.data.split(task.name).train[:count]
    if count == 1:
        return Workbench(task, shared, patients).with_own_batch_norm(shared)
    folds = split_folds(patients, settings.folds)
    without = [Variant("none", shared, is_reference=True)]
    return _choose_by(task, settings, shared, without, patients, (), folds).variant.module


def split_folds(patients: Sequence[str], folds: int) -> list[tuple[str, ...]]:
    """Cut patients, who are shuffled already, into parts whose sizes differ by one at most."""
    count = min(folds, len(patients))
    return [tuple(patients[i::count]) for i in range(count)]


def _scores(
    task: LocalTask, variants: Sequence[Variant], patients: Sequence[str]
) -> dict[str, float]:
    return {variant.name: _score(task, variant.module, patients) for variant in variants}


def _score(task: LocalTask, module: pl.LightningModule, patients: Sequence[str]) -> float:
    """Return the run's metric of a model on some patients; NaN for weights that are not finite."""
    if not is_finite(module):  # NaN may look like an empty mask, which can score 1
        return float("nan")
    metrics = evaluate(module, task.data.patient_loader(patients), "val", task.trainer)
    return metrics[task.evaluation.metric]
