"""results.json: the outcome of a run in one dictionary."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_fl.files import write_text
from lightning_fl.results.formats import LOWER_IS_BETTER
from lightning_fl.wire.records import CostRow, MetricRow

Scores = dict[str, dict[str, dict[str, float]]]
"""Model -> split -> metric -> value."""
Curves = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Site that did not train -> number of patients, as text -> metric -> value."""


def summarise(
    *,
    final: Sequence[MetricRow],
    training_sites: Sequence[str],
    unseen: Sequence[str] = (),
    rounds: int,
    best_round: int | None,
    costs: Iterable[CostRow],
    aggregator: Mapping[str, Any],
    personalisation: Mapping[str, Mapping[str, Any]],
    dropped: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    gradients: int | None = None,
) -> dict[str, Any]:
    """Build the dictionary of results.json.

    "mean" and "worst" are taken over the training sites. A site whose value is NaN (the metric is
    not defined there) or that was not evaluated takes no part in them; where no site has a value,
    they are NaN. "worst" is the lowest value, or the highest for a loss.

    Args:
        final: the final evaluation, one row for each site, model, split and metric.
        training_sites: names of the sites that took part in the federation.
        unseen: names of the sites that only personalised its outcome.
        rounds: number of rounds that were trained.
        best_round: the round whose model the final evaluation used, chosen on validation data; None
            where every site chose its own (`Local`).
        costs: every row of costs.csv.
        aggregator: how updates were summed: its name and settings.
        personalisation: for each site what it chose, e.g. {"steps": 8, "gain": 0.04}.
        dropped: one entry for each loss of a site, e.g. {"round": 3, "site": "B", "reason": "..."}.
        versions: version of each package, see `package_versions`.
        gradients: computed in training at all sites, optimiser steps times gradients a step; None
            where sites do not say. Those of personalisation are in `personalisation`.

    Returns:
        A dictionary that differs from run to run only where the run does: its keys are sorted.

    Raises:
        ValueError: two rows of `final` are about the same number.
    """
    trained = sorted(row[2:] for row in final if row.site in training_sites)
    return {
        "sites": _by_site(final),
        "mean": combine_values(trained, mean),
        "worst": combine_values(trained, worst),
        "rounds": rounds,
        "best_round": best_round,
        "costs": {
            **_totals(costs),
            "gradients": {
                "train": gradients,
                "personalise": sum(c.get("gradients", 0) for c in personalisation.values()),
            },
        },
        "aggregator": dict(aggregator),
        "versions": dict(sorted(versions.items())),
        "config": "config.yaml",
        "dropped": [dict(loss) for loss in dropped],
        "personalisation": {site: dict(personalisation[site]) for site in sorted(personalisation)},
        "unseen": sorted(unseen),
    }


def mean(values: Sequence[float], _metric: str) -> float:
    """Return the mean, which is taken alike for every metric."""
    return fmean(values)


def worst(values: Sequence[float], metric: str) -> float:
    """Return the lowest value, or the highest one of a metric that should be low."""
    return max(values) if metric in LOWER_IS_BETTER else min(values)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results.json; a number that is not finite becomes null, for JSON knows none."""
    finite = json.loads(json.dumps(results), parse_constant=lambda _: None)
    write_text(path, json.dumps(finite, indent=2, ensure_ascii=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Read results.json; null stays None."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def _by_site(final: Sequence[MetricRow]) -> dict[str, Scores]:
    """Nest rows as site -> model -> split -> metric -> value, in alphabetical order."""
    sites: dict[str, Scores] = {}
    for row in sorted(final, key=lambda row: row[1:5]):
        metrics = sites.setdefault(row.site, {}).setdefault(row.model, {}).setdefault(row.split, {})
        if row.metric in metrics:
            raise ValueError(
                f"Expected one value of the {row.split} {row.metric} of the {row.model} model of"
                f" site {row.site!r}, but got {metrics[row.metric]} and {row.value}; pass the rows"
                " of the final evaluation only."
            )
        metrics[row.metric] = row.value
    return sites


def combine_values(
    values: Iterable[tuple[str, str, str, float]],
    combine: Callable[[Sequence[float], str], float],
) -> Scores:
    """Combine the values that have the same three names, the last of which is a metric.

    Values that are not defined (NaN) are left out; where none is, the result is NaN.
    """
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for model, split, metric, value in values:
        groups[model, split, metric].append(value)
    combined: Scores = {}
    for (model, split, metric), group in groups.items():
        defined = [value for value in group if not math.isnan(value)]
        result = combine(defined, metric) if defined else math.nan
        combined.setdefault(model, {}).setdefault(split, {})[metric] = result
    return combined


def _totals(costs: Iterable[CostRow]) -> dict[str, Any]:
    """Add up the bytes of a run, and its seconds for each operation and each part of one."""
    rows = list(costs)
    operations = sorted({row.operation for row in rows})
    return {
        "bytes": sum(row.bytes for row in rows),
        "bytes_up": sum(row.bytes_up for row in rows),
        "bytes_down": sum(row.bytes_down for row in rows),
        "seconds": {
            operation: math.fsum(row.seconds for row in rows if row.operation == operation)
            for operation in operations
        },
    }
