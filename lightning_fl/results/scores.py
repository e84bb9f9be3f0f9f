"""One metric of results.json as a table of sites by models, which every renderer shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_fl.results.formats import LOWER_IS_BETTER

HEADLINES = ("dice", "auroc")
"""What a task is known by, before all its other metrics."""

MODELS = ("global", "global_bn", "local", "local_bn", "finetuned", "personal")
"""The order in which models are shown: before personalisation, then after it."""


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
    values: tuple[float, ...]
    gain: float = math.nan
    unseen: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """Scores of all sites and models for one metric on one split."""

    metric: str
    split: str
    models: tuple[str, ...]
    sites: tuple[ScoreRow, ...]
    summary: tuple[ScoreRow, ...]

    @property
    def before(self) -> str:
        """The model before personalisation: "global", or "local" where sites trained alone."""
        return "global" if "global" in self.models else "local"

    @property
    def has_gain(self) -> bool:
        """Whether there are models before and after personalisation to compare."""
        return self.before in self.models and "personal" in self.models

    def value(self, row: ScoreRow, model: str) -> float:
        """The score of a model in a row; NaN where there is none."""
        return row.values[self.models.index(model)] if model in self.models else math.nan

    def best(self, row: ScoreRow) -> float:
        """The best score of a row; NaN where it has none."""
        values = [value for value in row.values if math.isfinite(value)]
        if not values:
            return math.nan
        return min(values) if self.metric in LOWER_IS_BETTER else max(values)


def score_table(results: Mapping[str, Any], metric: str, split: str = "test") -> ScoreTable:
    """Read one metric out of what `summarise` returned (or results.json, with null for NaN)."""
    sites: Mapping[str, Any] = results["sites"]
    unseen = set(results["unseen"])
    found = {model for scores in sites.values() for model in scores if split in scores[model]}
    models = tuple(model for model in MODELS if model in found)
    empty = ScoreTable(metric, split, models, (), ())
    rows = [_row(empty, site, scores, site in unseen) for site, scores in sites.items()]
    rows.sort(key=lambda row: row.unseen)
    summary = [_row(empty, name, results[name], False) for name in ("mean", "worst")]
    gains = [row.gain for row in rows if not row.unseen and math.isfinite(row.gain)]
    if gains:
        # A site without one of the two models must not shift the gain of the others.
        summary[0] = ScoreRow("mean", summary[0].values, math.fsum(gains) / len(gains))
    return ScoreTable(metric, split, models, tuple(rows), tuple(summary))


def metrics_of(results: Mapping[str, Any], split: str = "test") -> list[str]:
    """Return the metrics of a split: Dice or AUROC first, losses last, else by the alphabet."""
    metrics = {metric for splits in results["mean"].values() for metric in splits.get(split, {})}
    return sorted(metrics, key=lambda name: (_place(name), name in LOWER_IS_BETTER, name))


def headline_metric(results: Mapping[str, Any]) -> str:
    """Return the metric to show first: Dice or AUROC, a loss only if there is nothing else.

    A run that was interrupted has validation metrics only.
    """
    metrics = metrics_of(results, "test") or metrics_of(results, "val")
    return metrics[0] if metrics else "dice"


def _place(metric: str) -> int:
    return HEADLINES.index(metric) if metric in HEADLINES else len(HEADLINES)


def _row(table: ScoreTable, name: str, scores: Mapping[str, Any], unseen: bool) -> ScoreRow:
    """Collect a row's scores, and its gain where both models are there."""
    values = tuple(
        number(scores.get(model, {}).get(table.split, {}).get(table.metric))
        for model in table.models
    )
    row = ScoreRow(name, values, unseen=unseen)
    gain = table.value(row, "personal") - table.value(row, table.before)
    return ScoreRow(name, values, gain, unseen)


def number(value: float | None) -> float:
    """Undo what results.json does to NaN."""
    return math.nan if value is None else float(value)
