"""What the comparison page shows, from the folders of finished runs alone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from lightning_fl.results.compare.compared_scores import ComparedScores, compare_scores
from lightning_fl.results.formats import MISSING, bytes_text, seconds_text
from lightning_fl.results.report.colours import SITE_COLOURS
from lightning_fl.results.report.plots import bars_svg
from lightning_fl.results.report.rendering import render
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import metrics_of

OWN_TO_A_RUN = ("output",)
"""Settings that differ from run to run without changing it."""

Rows = list[list[str]]
"""Cells of a table, row by row."""


def write_comparison(folders: Sequence[Path], page: Path) -> None:
    """Write the comparison of some runs; the first one is what the others are compared with.

    Raises:
        ConfigError: a folder is not one of a finished run, or the runs have no metric in common.
    """
    runs = named_runs(folders)
    metrics = shared_metrics(runs)
    after, before = (compare_scores(runs, metrics[0], own=own) for own in (True, False))
    personalised = after.models != before.models
    others = [compare_scores(runs, metric, own=True) for metric in metrics[1:]]
    html = render(
        "compare.html",
        runs=runs,
        scores={"after": after, "before": before} if personalised else {"after": after},
        bars=_bars(after),
        others=others,
        settings=different_settings({name: run.config for name, run in runs.items()}),
        costs=cost_rows([run.results for run in runs.values()]),
    )
    write_text(page, html)


def named_runs(folders: Sequence[Path]) -> dict[str, RunFolder]:
    """Read finished runs; each has its folder's name, or its path where names are equal.

    Raises:
        ConfigError: names the folder that is not one of a finished run, or is there twice.
    """
    places = [folder.resolve() for folder in folders]
    if len(places) < 2 or len(set(places)) < len(places):
        raise ConfigError(
            f"Expected at least two different runs, but got {[str(f) for f in folders]}."
        )
    unique = len({place.name for place in places}) == len(places)
    names = [place.name if unique else str(f) for place, f in zip(places, folders, strict=True)]
    return dict(zip(names, map(_finished_run, folders), strict=True))


def _finished_run(folder: Path) -> RunFolder:
    try:
        run = RunFolder(folder)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    if not run.finished:
        raise ConfigError(
            f"The run in {folder} is not finished, so it has no test scores. Go on with it by "
            f"--resume {folder}, or leave it out."
        )
    return run


def shared_metrics(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return the test metrics that all runs have, the one to show first in front.

    Raises:
        ConfigError: they have none in common, or losses alone where a run has other scores, too:
            losses of different tasks cannot be compared.
    """
    metrics = {name: metrics_of(run.results) for name, run in runs.items()}
    first, *others = metrics.values()
    shared = [metric for metric in first if all(metric in other for other in others)]
    if not shared or (shared == ["loss"] and any(own != ["loss"] for own in metrics.values())):
        lists = "; ".join(f"{name} has {', '.join(own)}" for name, own in metrics.items())
        raise ConfigError(
            f"The runs have no test metric in common that could be compared: {lists}. Compare runs "
            "of one task."
        )
    return shared


def different_settings(configs: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Return a row for each setting that is not the same in all configs: its name, each value."""
    flat = [_flat(config) for config in configs.values()]
    names = sorted({name for settings in flat for name in settings} - {*OWN_TO_A_RUN})
    rows = [[name, *(settings.get(name, MISSING) for settings in flat)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Name each value of nested settings by its path, e.g. "algorithm.init_args.alpha"."""
    records = pd.json_normalize(dict(config)).to_dict("records")
    return {str(name): str(value) for record in records for name, value in record.items()}


def cost_rows(results: Sequence[Mapping[str, Any]]) -> Rows:
    """Return what each run cost, a row for each kind of cost."""
    seconds = [_seconds_by_operation(run) for run in results]
    operations = dict.fromkeys(name for run in seconds for name in run)
    gradients = [run["costs"].get("gradients") or {} for run in results]
    return [
        ["rounds", *(str(run["rounds"]) for run in results)],
        ["best round", *(_count(run["best_round"]) for run in results)],
        ["gradients of training", *(_count(own.get("train")) for own in gradients)],
        ["gradients of personalisation", *(_count(own.get("personalise")) for own in gradients)],
        ["bytes moved", *(bytes_text(run["costs"]["bytes"]) for run in results)],
        *(
            [f"time of {name}", *(seconds_text(run.get(name, math.nan)) for run in seconds)]
            for name in operations
        ),
        ["sites lost in a round", *(str(len(run["dropped"])) for run in results)],
    ]


def _seconds_by_operation(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each operation with those of its parts, e.g. "ring_pass: encrypt"."""
    seconds: dict[str, float] = {}
    for name, value in results["costs"]["seconds"].items():
        operation = name.partition(":")[0]
        seconds[operation] = seconds.get(operation, 0.0) + value
    return seconds


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _bars(scores: ComparedScores) -> str:
    colours = [SITE_COLOURS[number % len(SITE_COLOURS)] for number in range(len(scores.models))]
    return bars_svg(scores.table, dict(zip(scores.models, colours, strict=True)))
