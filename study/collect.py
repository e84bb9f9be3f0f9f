"""From the runs' results.json to the rows of a study."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_fl.errors import ConfigError
from lightning_fl.results.scores import metrics_of
from lightning_fl.results.summary import read_results
from study.folder import failure, is_finished
from study.plan import PlannedRun
from study.records import Cost, Missing, Records, Score, read_records
from study.study_file import Study


def collect(folder: Path, study: Study, runs: Iterable[PlannedRun]) -> Records:
    """Read what each run found and cost.

    Args:
        folder: of the study.
        study: whose methods take their scores from the runs.
        runs: those that should be there.

    Raises:
        ConfigError: a run has no such metric.
    """
    records = Records([], [], [])
    for run in runs:
        if not is_finished(folder / run.path):
            records.missing.append(_missing(run, failure(folder, run)))
            continue
        results = read_results(folder / run.path / "results.json")
        check_metric(study, run, results)
        records.costs.append(cost(run, results))
        for name, method in study.methods.items():
            if method.run != run.run:
                continue
            if method.model in results["mean"]:
                records.scores.extend(scores(run, name, method.model, results))
            else:
                there = ", ".join(results["mean"])
                reason = f"{name}: the run has no model {method.model!r}, but {there}"
                records.missing.append(_missing(run, reason))
    return records


def collect_again(folder: Path, study: Study, runs: Iterable[PlannedRun]) -> Records:
    """Read the runs whose folders are there, and of the others what the CSV files keep.

    Args:
        folder: of the study.
        study: see `collect`.
        runs: see `collect`.

    Raises:
        ConfigError: see `collect` and `read_records`.
    """
    kept = read_records(folder)
    there = [run for run in runs if is_finished(folder / run.path)]
    found = collect(folder, study, there)
    read = set(there)
    return Records(
        found.scores + [row for row in kept.scores if _run(row) not in read],
        found.costs + [row for row in kept.costs if _run(row) not in read],
        found.missing + [row for row in kept.missing if _run(row) not in read],
    )


def _run(row: Score | Cost | Missing) -> PlannedRun:
    return PlannedRun(row.condition, row.run, row.seed)


def check_metric(study: Study, run: PlannedRun, results: Mapping[str, Any]) -> None:
    """Refuse a metric that a run did not measure."""
    there = metrics_of(results, "test")
    if study.metric not in there:
        raise ConfigError(
            f"`metric` is {study.metric!r}, but the test metrics of {run} are {there}; choose one"
            " of them."
        )


def scores(run: PlannedRun, method: str, model: str, results: Mapping[str, Any]) -> Iterator[Score]:
    """The scores of one model: of each site, their mean and the worst."""
    groups = {**results["sites"], "mean": results["mean"], "worst": results["worst"]}
    for site, models in groups.items():
        for split, metrics in models.get(model, {}).items():
            for metric, value in metrics.items():
                number = math.nan if value is None else float(value)
                yield Score(
                    run.condition, method, run.run, model, run.seed, site, split, metric, number
                )


def cost(run: PlannedRun, results: Mapping[str, Any]) -> Cost:
    """What a run cost; results of old versions do not count gradients."""
    costs = results["costs"]
    gradients = costs.get("gradients") or {}
    return Cost(
        condition=run.condition,
        run=run.run,
        seed=run.seed,
        train_gradients=gradients.get("train"),
        personalise_gradients=gradients.get("personalise"),
        bytes=costs["bytes"],
        seconds=math.fsum(costs["seconds"].values()),
        losses=len(results["dropped"]),
    )


def _missing(run: PlannedRun, reason: str) -> Missing:
    return Missing(run.condition, run.run, run.seed, " ".join(reason.split()))
