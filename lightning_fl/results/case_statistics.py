"""What the scores of a site's patients are on average, and where there are too few of them."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_fl.training.case_scores import CaseScores

_log = logging.getLogger(__name__)

FEW = 5
"""Test patients below which a site is marked."""
MARK = "*"
FEW_PATIENTS = f"{MARK} fewer than {FEW} test patients"
RESAMPLES = 1000
"""Of the bootstrap."""
FIELDS = {
    "mean": float,
    "sd": float,
    "median": float,
    "low": float,
    "high": float,
    "patients": int,
    "images": int,
}
"""What is said of a metric, see `describe_values`; `images` are those where it is defined."""

Statistics = dict[str, float]
SiteCases = dict[str, dict[str, dict[str, Statistics]]]
"""Model -> split -> metric -> statistics. A class by itself has a metric like "dice/2"."""


def case_statistics(scores: CaseScores, seed: int) -> dict[str, Statistics]:
    """Return the statistics over the patients of a split, by metric."""
    return {
        "/".join(filter(None, (metric, label))): {
            **describe_values(column.numpy(), seed),
            "images": int((~scores.images[label, metric].isnan()).sum()),
        }
        for (label, metric), column in scores.cases.items()
    }


def describe_values(values: npt.NDArray[np.float64], seed: int) -> Statistics:
    """Describe the values of patients; those that are not defined are left out.

    Returns:
        `mean`, `sd` (of a sample, with n - 1), `median`, `low` and `high`, the 95 % interval of the
        mean by the percentile bootstrap over patients, and `patients`. What needs more patients
        than there are is NaN.
    """
    defined = values[~np.isnan(values)]
    count, rng = len(defined), np.random.default_rng(seed)
    low = high = math.nan
    if count > 1:
        means = defined[rng.integers(count, size=(RESAMPLES, count))].mean(axis=1)
        low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return {
        "mean": float(defined.mean()) if count else math.nan,
        "sd": float(defined.std(ddof=1)) if count > 1 else math.nan,
        "median": float(np.median(defined)) if count else math.nan,
        "low": low,
        "high": high,
        "patients": count,
    }


def received_cases(answers: Mapping[str, Any]) -> dict[str, SiteCases]:
    """Return the statistics in the sites' answers: numbers under the names of `FIELDS` alone.

    A site whose answer holds something else is left out with a warning.
    """
    cases: dict[str, SiteCases] = {}
    for site, answer in answers.items():
        try:
            cases[site] = _site_cases(answer)
        except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
            _log.warning("site %r gave no statistics of its patients: %s", site, error)
    return {site: of_site for site, of_site in cases.items() if of_site}


def of_test_patients(cases: SiteCases, model: str, metric: str) -> Statistics:
    """Return the statistics over a site's test patients; {} where there are none."""
    return cases.get(model, {}).get("test", {}).get(metric, {})


def has_few_patients(cases: SiteCases) -> bool:
    """Return whether a site has fewer than five test patients; a hidden number is not few."""
    counts = (of_test_patients(cases, model, "dice").get("patients", FEW) for model in cases)
    return any(count < FEW for count in counts)


def marked(site: str, cases: SiteCases) -> str:
    """Return the name of a site, with a mark where it has few test patients."""
    return f"{site} {MARK}" if has_few_patients(cases) else site


def _site_cases(answer: Any) -> SiteCases:
    return {
        model: {
            split: {metric: _numbers(statistics) for metric, statistics in metrics.items()}
            for split, metrics in splits.items()
        }
        for model, splits in answer.items()
    }


def _numbers(statistics: Any) -> Statistics:
    return {name: FIELDS[name](value) for name, value in statistics.items() if name in FIELDS}
