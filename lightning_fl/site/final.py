"""The end of a run at one site: personalise, test once, keep the personal model."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch

from lightning_fl.personalisation.choice import patients_curve, personalise
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.site.cases import record_cases
from lightning_fl.site.disclosure import Disclosure
from lightning_fl.site.local_state import LocalState
from lightning_fl.training.case_scores import CaseScores, ScoreImages
from lightning_fl.training.fitting import evaluate
from lightning_fl.training.gallery import draw_gallery
from lightning_fl.wire.operations import Answer

Scores = dict[str, dict[str, float]]
NOTHING = {
    "choice": "none",
    "steps": 0,
    "validation_gain": 0.0,
    "gradients": 0,
    "by": "nothing",
    "candidates": {},
}
"""What results.json says of a site that has nothing to personalise or to choose with."""


class FinalEvaluation:
    """Scores a site's models on validation and test data, each once.

    "global" is the model as it came out of the federation, "global_bn" the same with BatchNorm
    re-estimated on the site's training images, "finetuned" what plain fine-tuning of all weights
    to its last step makes of it, whatever validation says, and "personal" the one that the guard
    chose. Where the site trained alone the first two are called "local" and "local_bn".

    Args:
        state: of the site.
        disclosure: decides which numbers leave the site.
    """

    def __init__(self, state: LocalState, disclosure: Disclosure) -> None:
        self.state = state
        self.disclosure = disclosure
        self.task = state.task
        self.base = "local" if state.setup.algorithm.trains_alone else "global"
        self.is_new = state.name in state.data.unseen
        self.counts = {part: state.data.sample_count(part) for part in ("train", "val", "test")}
        splits: tuple[Literal["val", "test"], ...] = ("val", "test")
        self.splits = [split for split in splits if self.counts[split]]

    def run(self, round_: int) -> Answer:
        """Evaluate and personalise from the global weights and private state of a round.

        Returns:
            `scores` by model, split and metric, `cases` with statistics over patients where there
            are masks, `personalisation` with what the guard chose and, at a hospital that did not
            train, `new_hospital` where the settings ask for it.
        """
        state, settings = self.state, self.state.setup.personalisation
        shared = state.module(round_)
        models = {self.base: shared}
        summary: dict[str, Any] = NOTHING
        if self.counts["train"]:
            bench = Workbench(self.task, shared, state.data.split(state.name).train)
            models[f"{self.base}_bn"] = bench.with_own_batch_norm(shared)
        if self.counts["train"] and self.counts["val"]:
            averaged = None if self.is_new else state.averaged_module(round_)
            start = self._start(round_, shared)
            choice = personalise(self.task, settings, shared, start, averaged)
            summary = choice.summary()
            if choice.finetuned is not None:
                models["finetuned"] = choice.finetuned
            models["personal"] = choice.variant.module
            if self.task.evaluation.test_candidates:
                models |= {v.name: v.module for v in choice.variants if v.name != "none"}
        distinct = {id(model): model for model in models.values()}  # each model is tested once
        by_model = {key: self._score(model) for key, model in distinct.items()}
        scores = {name: by_model[id(model)][0] for name, model in models.items()}
        cases = {name: by_model[id(model)][1] for name, model in models.items()}
        kept = models.get("personal", shared)
        state.store.save_tensors("personal", dict(kept.state_dict()))
        state.store.save_tensors("global", dict(shared.state_dict()))
        self._picture(models)
        patients = state.data.split(state.name)
        counts: dict[str, int] = {split: len(getattr(patients, split)) for split in self.splits}
        by_split, scored = self.disclosure.by_split, self.disclosure.scores
        info: dict[str, Any] = {"scores": by_split(scores, counts), "personalisation": summary}
        if summary is not NOTHING:
            told = scored(summary, counts.get("val", 0))
            info["personalisation"] = NOTHING | {"choice": summary["choice"]} | told
        if statistics := record_cases(state, cases):
            info["cases"] = by_split(statistics, counts)
        if self.is_new and settings.patients:
            curve = patients_curve(self.task, settings, shared)
            told = {count: scored(of, counts.get("test", 0)) for count, of in curve.items()}
            info["new_hospital"] = told
        return Answer(info, {})

    def _start(self, round_: int, shared: pl.LightningModule) -> pl.LightningModule:
        """Return the model to personalise: the second one where the algorithm has trained it."""
        if self.is_new:
            return shared
        second = self.state.personal_module(round_)
        entries, others = shared.state_dict(), second.state_dict()
        equal = all(torch.equal(others[name], value) for name, value in entries.items())
        return shared if equal else second

    def _score(self, module: pl.LightningModule) -> tuple[Scores, dict[str, CaseScores]]:
        """Return a model's metrics by split, and the scores of single patients for masks."""
        data, scores, cases = self.task.data, Scores(), dict[str, CaseScores]()
        classes = getattr(module, "classes", None)  # of a task of one's own it may be anything
        for split in self.splits:
            images = ScoreImages(data.pixel_size(self.state.name))
            scores[split] = evaluate(
                module, data.loader(split), split, self.task.trainer, callbacks=[images]
            )
            if of_cases := images.scores(classes if isinstance(classes, int) else 2):
                cases[split] = of_cases
        return scores, cases

    def _picture(self, models: dict[str, pl.LightningModule]) -> None:
        shown = {name: models[name] for name in (self.base, "personal") if name in models}
        count, data = self.task.evaluation.gallery, self.task.data
        tensors = draw_gallery(shown, data.loader("test"), count, self.task.trainer, data.pictures)
        if tensors:
            self.state.store.save_tensors("gallery", tensors)
