"""Collect the records of a study from its runs' results.json."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fl.errors import ConfigError
from lightning_fl.results.scores import metrics_of
from lightning_fl.results.summary import read_results
from study.conditions import Condition, PlannedRun
from study.rows import Cost, Missing, Records, Score, read_records, records_of, shown_scores
from study.study_file import Study
from study.study_folder import failure, is_finished


def collect(folder: Path, study: Study, runs: Iterable[PlannedRun]) -> Records:
    """Read the scores and costs of each run.

    Args:
        folder: of the study.
        study: whose methods take their scores from the runs.
        runs: those that should be there.

    Raises:
        ConfigError: a run has no such metric.
    """
    scores: list[Score] = []
    costs: list[Cost] = []
    missing: list[Missing] = []
    for run in runs:
        if not is_finished(folder / run.path):
            missing.append(Missing(*run, " ".join(failure(folder, run).split())))
            continue
        results = read_results(folder / run.path / "results.json")
        check_metric(study, run, results)
        costs.append(cost(run, results))
        for name, method in study.methods.items():
            if method.run == run.run and method.model in results["mean"]:
                scores.extend(scores_of(run, name, method.model, results))
            elif method.run == run.run:
                models = ", ".join(results["mean"])
                reason = f"{name}: the run has no model {method.model!r}, but {models}"
                missing.append(Missing(*run, reason))
    return records_of(scores, costs, missing)


def collect_again(folder: Path, study: Study, runs: Iterable[PlannedRun]) -> Records:
    """Read the runs whose folders are there, and the CSV files for all others.

    Raises:
        ConfigError: see `collect` and `read_records`.
    """
    finished = [run for run in runs if is_finished(folder / run.path)]
    fresh, kept = collect(folder, study, finished), read_records(folder)
    return Records(
        *(
            pd.concat([new, old.loc[[run not in finished for run in runs_in(old)]]])
            for new, old in zip(fresh, kept, strict=True)
        )
    )


def runs_in(table: pd.DataFrame) -> Iterator[PlannedRun]:
    """Yield the run that each row of a table is about."""
    return map(PlannedRun, table.condition, table.run, table.seed)


def check_metric(study: Study, run: PlannedRun, results: Mapping[str, Any]) -> None:
    """Refuse a metric that a run did not measure."""
    metrics = metrics_of(results, "test")
    if study.metric not in metrics:
        raise ConfigError(
            f"`metric` is {study.metric!r}, but the test metrics of {run} are {metrics}; choose one"
            " of them."
        )


def scores_of(
    run: PlannedRun, method: str, model: str, results: Mapping[str, Any]
) -> Iterator[Score]:
    """Yield the scores of one model: of each site, their mean and the worst."""
    groups = {**results["sites"], "mean": results["mean"], "worst": results["worst"]}
    for site, models in groups.items():
        for split, metrics in models.get(model, {}).items():
            for metric, value in metrics.items():
                number = math.nan if value is None else float(value)
                yield Score(
                    run.condition, method, run.run, model, run.seed, site, split, metric, number
                )


def cost(run: PlannedRun, results: Mapping[str, Any]) -> Cost:
    """Return what a run cost."""
    costs = results["costs"]
    return Cost(
        *run,
        train_gradients=costs["gradients"]["train"],
        personalise_gradients=costs["gradients"]["personalise"],
        bytes=costs["bytes"],
        seconds=math.fsum(costs["seconds"].values()),
        losses=len(results["dropped"]),
    )


def missing_of(study: Study, conditions: Sequence[Condition], records: Records) -> list[Missing]:
    """Return the runs, and the models of runs, that the tables are without."""
    finished = set(runs_in(records.costs))
    shown = shown_scores(records, study.metric)
    scored = set(zip(runs_in(shown), shown.method, shown.model, strict=True))
    reported = list(zip(runs_in(records.missing), records.missing.reason, strict=True))
    used = {method.run for method in study.methods.values()}
    missing = []
    expected = [
        PlannedRun(condition.name, name, seed)
        for condition in conditions
        for name in condition.runs
        for seed in condition.seeds
        if name in used
    ]
    for run in expected:
        reasons = [reason for reported_run, reason in reported if reported_run == run]
        if run in finished:
            reasons += [
                f"{name}: not in scores.csv"
                for name, method in study.methods.items()
                if method.run == run.run
                and (run, name, method.model) not in scored
                and not any(reason.startswith(f"{name}: ") for reason in reasons)
            ]
        elif not reasons:
            reasons = ["not run yet"]
        missing += [Missing(*run, reason) for reason in reasons]
    return missing
