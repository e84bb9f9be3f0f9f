"""One metric of results.json as a table of sites by models, which every renderer shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from lightning_fl.results.formats import LOWER_IS_BETTER, gain_text, score_text

MODELS = ("global", "global_bn", "local", "local_bn", "finetuned", "personal")
"""The order in which models are shown: before personalisation, then after it.

Re-estimated BatchNorm ("_bn") has columns of its own, since much of what looks like personalisation
can be statistics that do not fit the site.
"""


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one site, or of all training sites together.

    Attributes:
        name: the site, "mean" or "worst".
        values: one score for each model of the table; NaN where there is none.
        gain: personal model minus the shared (or local) one; NaN where one of them is missing. For
            "mean" it is the mean of the sites' gains.
        unseen: whether the site did not train.
    """

    name: str
    values: Mapping[str, float]
    gain: float = math.nan
    unseen: bool = False

    @property
    def label(self) -> str:
        """Return the name as tables show it."""
        return f"{self.name} (unseen)" if self.unseen else self.name


@dataclass(frozen=True)
class ScoreTable:
    """Scores of all sites and models for one metric on one split."""

    metric: str
    models: tuple[str, ...]
    sites: tuple[ScoreRow, ...]
    summary: tuple[ScoreRow, ScoreRow]

    @property
    def compared(self) -> list[str]:
        """The models before ("local" where sites trained alone) and after personalisation."""
        before = "global" if "global" in self.models else "local"
        return [before, "personal"] if {before, "personal"} <= set(self.models) else [before]

    @property
    def has_gain(self) -> bool:
        """Whether there are models before and after personalisation to compare."""
        return len(self.compared) == 2

    @property
    def lower_is_better(self) -> bool:
        """Whether the worst value is the highest one."""
        return self.metric in LOWER_IS_BETTER

    @property
    def columns(self) -> list[str]:
        """The headings of `texts`."""
        return ["site", *self.models, *(["gain"] if self.has_gain else [])]

    def texts(self, row: ScoreRow) -> list[str]:
        """Return the cells of a row as text."""
        cells = [row.label]
        cells += [score_text(value, self.metric) for value in row.values.values()]
        return [*cells, gain_text(row.gain, self.metric)] if self.has_gain else cells

    def best_text(self, row: ScoreRow) -> str | None:
        """Return the best score of a row as text; None where it has none."""
        values = [value for value in row.values.values() if math.isfinite(value)]
        if not values:
            return None
        return score_text(min(values) if self.lower_is_better else max(values), self.metric)


def score_table(results: Mapping[str, Any], metric: str, split: str = "test") -> ScoreTable:
    """Read one metric out of what `summarise` returned (or results.json, with null for NaN)."""
    sites: Mapping[str, Any] = results["sites"]
    unseen = set(results["unseen"])
    evaluated = {model for scores in sites.values() for model in scores if split in scores[model]}
    models = tuple(model for model in MODELS if model in evaluated)

    def row(name: str, scores: Mapping[str, Any], unseen: bool = False) -> ScoreRow:
        values = {m: number(scores.get(m, {}).get(split, {}).get(metric)) for m in models}
        before = values.get("global", values.get("local", math.nan))
        return ScoreRow(name, values, values.get("personal", math.nan) - before, unseen)

    rows = [row(site, scores, site in unseen) for site, scores in sites.items()]
    rows.sort(key=lambda row: row.unseen)
    mean, worst = (row(name, results[name]) for name in ("mean", "worst"))
    gains = [row.gain for row in rows if not row.unseen and math.isfinite(row.gain)]
    if gains:
        # A site without one of the two models must not shift the gain of the others.
        mean = replace(mean, gain=fmean(gains))
    return ScoreTable(metric, models, tuple(rows), (mean, worst))


def metrics_of(results: Mapping[str, Any], split: str = "test") -> list[str]:
    """Return the metrics of a split: Dice or AUROC first, losses last, else by the alphabet."""
    metrics = {metric for splits in results["mean"].values() for metric in splits.get(split, {})}
    return sorted(
        metrics, key=lambda name: (name != "dice", name != "auroc", name in LOWER_IS_BETTER, name)
    )


def headline_metric(results: Mapping[str, Any]) -> str:
    """Return the metric to show first: Dice or AUROC, a loss only if there is nothing else.

    A run that was interrupted has validation metrics only.
    """
    metrics = metrics_of(results, "test") or metrics_of(results, "val")
    return metrics[0] if metrics else "dice"


def number(value: float | None) -> float:
    """Undo what results.json does to NaN."""
    return math.nan if value is None else float(value)
