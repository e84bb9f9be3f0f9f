"""The end of a run at one site: personalise, test once, keep the personal model."""

import copy
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl

from lightning_fl.aggregation.base import Answer
from lightning_fl.algorithms import FedAvg
from lightning_fl.batch_norm import batch_norm_modules
from lightning_fl.fitting import Progress, evaluate, fit, reestimate_batch_norm
from lightning_fl.gallery import draw_gallery
from lightning_fl.personalisation import FineTune
from lightning_fl.seeds import derive_seed, seed_all

if TYPE_CHECKING:
    from lightning_fl.site import Site

Scores = dict[str, dict[str, float]]


class FinalEvaluation:
    """Scores three models of a site on validation and test data, each once.

    "global" is the model as it came out of the federation, "global_bn" the same with BatchNorm
    re-estimated on the site's training images, "personal" the one of the fine-tuned snapshots, or
    "global" itself, that is best on the site's validation data. Where the site trained alone the
    first two are called "local" and "local_bn".

    Args:
        site: whose data and state are used.
    """

    def __init__(self, site: "Site") -> None:
        self.site = site
        self.base = "local" if site.algorithm.trains_alone else "global"
        self.counts = {part: site.data.sample_count(part) for part in ("train", "val", "test")}

    def run(self, round_: int) -> Answer:
        """Evaluate and personalise from the global weights and private state of a round.

        Returns:
            `scores` by model, split and metric, and `personalisation` with the number of steps
            taken and what they gained on validation.
        """
        start = self.site.module(round_)
        models = {self.base: start}
        choice: dict[str, Any] = {"steps": 0, "validation_gain": 0.0}
        if self.counts["train"]:
            models[f"{self.base}_bn"] = self._with_own_batch_norm(start)
        if self.counts["train"] and self.counts["val"]:
            own = self.site.personal_module(round_) if self.site.algorithm.second else start
            models["personal"], choice = self._personalise(own)
        distinct = {id(model): model for model in models.values()}  # each model is tested once
        by_model = {key: self._score(model) for key, model in distinct.items()}
        scores = {name: by_model[id(model)] for name, model in models.items()}
        kept = models.get("personal", start)
        self.site.store.save_tensors("personal", dict(kept.state_dict()))
        self._picture(models)
        return Answer({"scores": scores, "personalisation": choice}, {})

    def _with_own_batch_norm(self, start: pl.LightningModule) -> pl.LightningModule:
        if not batch_norm_modules(start):
            return start
        module = copy.deepcopy(start)
        seed = derive_seed(self.site.seed, self.site.name, "batch norm")
        loader = self.site.data.train_loader(seed=seed, augment=False)
        reestimate_batch_norm(module, loader, self.site.trainer)
        return module

    def _personalise(self, start: pl.LightningModule) -> tuple[pl.LightningModule, dict[str, Any]]:
        """Fine-tune once, then let validation choose among the snapshots and the start."""
        site, options = self.site, self.site.evaluation
        steps = sorted(set(options.personal_steps) - {0})
        if not steps:
            return start, {"steps": 0, "validation_gain": 0.0}
        tuned = copy.deepcopy(start)
        fine_tune = FineTune(steps, options.personal_lr)
        seed_all(derive_seed(site.seed, site.name, "personalise"))
        plain = FedAvg(batch_norm=site.algorithm.batch_norm)
        trainer = site.trainer.for_steps(steps[-1])
        loader = site.train_loader("personalise", 0, batches=1)
        fit(tuned, loader, [site.callback(plain), fine_tune], trainer, Progress())
        before = best = self._validation_score(start)
        chosen, best_step = start, 0
        for step, state in sorted(fine_tune.snapshots.items()):
            candidate = copy.deepcopy(start)
            candidate.load_state_dict(state)
            score = self._validation_score(candidate)
            if options.is_better(score, best):
                chosen, best, best_step = candidate, score, step
        return chosen, {"steps": best_step, "validation_gain": best - before}

    def _validation_score(self, module: pl.LightningModule) -> float:
        site = self.site
        metrics = evaluate(module, site.data.loader("val"), "val", site.trainer)
        return metrics[site.evaluation.metric]

    def _score(self, module: pl.LightningModule) -> Scores:
        splits: tuple[Literal["val", "test"], ...] = ("val", "test")
        return {
            split: evaluate(module, self.site.data.loader(split), split, self.site.trainer)
            for split in splits
            if self.counts[split]
        }

    def _picture(self, models: dict[str, pl.LightningModule]) -> None:
        shown = {name: models[name] for name in (self.base, "personal") if name in models}
        count = self.site.evaluation.gallery
        tensors = draw_gallery(shown, self.site.data.loader("test"), count, self.site.trainer)
        if tensors:
            self.site.store.save_tensors("gallery", tensors)
