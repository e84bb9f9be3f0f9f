"""Let out of a site's scores what its hospital has agreed to."""

import math
from collections.abc import Mapping
from typing import Any

from lightning_fl.errors import ConfigError
from lightning_fl.site.terms import SiteTerms

LARGEST = 1e6
"""No score that leaves is larger; a distance in millimetres is far below."""


class Disclosure:
    """Rounds scores and keeps losses, and scores of few patients, at the site.

    A score of a few patients, or one with all its decimals, tells of single images.

    Args:
        terms: of the site's hospital.
    """

    def __init__(self, terms: SiteTerms) -> None:
        self.terms = terms

    def check_metric(self, metric: str) -> None:
        """Refuse to choose rounds by a number that does not leave.

        Raises:
            ConfigError: names the metric and the remedy.
        """
        if not self._leaves(metric):
            raise ConfigError(
                f"`evaluation.metric` is {metric!r}, but losses stay at this hospital. Choose a "
                "score, e.g. dice, or let the hospital set `decimals: null` in its file."
            )

    def scores(self, scores: Mapping[str, Any], cases: int) -> dict[str, Any]:
        """Return scores of so many patients, nested or not, as they may leave."""
        if cases < self.terms.least_cases:
            return {}
        return {
            k: self._number(v)
            for k, v in scores.items()
            if self._leaves(k) and not self._is_of_few(v)
        }

    def by_split(self, scores: Mapping[str, Any], cases: Mapping[str, int]) -> dict[str, Any]:
        """Return scores by model and split as they may leave, with the patients of each split."""
        return {
            model: {split: self.scores(values, cases[split]) for split, values in splits.items()}
            for model, splits in scores.items()
        }

    def _is_of_few(self, value: Any) -> bool:
        """Say whether these are statistics of few patients: a rare class is in few of a split."""
        return isinstance(value, Mapping) and 0 < value.get("patients", 0) < self.terms.least_cases

    def _leaves(self, name: str) -> bool:
        return self.terms.decimals is None or "loss" not in name.lower()

    def _number(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: self._number(v) for k, v in value.items() if self._leaves(str(k))}
        if self.terms.decimals is None or not isinstance(value, float) or math.isnan(value):
            return value  # NaN has no size, and the coordinator has to see that it is none
        return max(-LARGEST, min(LARGEST, round(value, self.terms.decimals)))
