"""scores.csv, costs.csv and missing.csv: all that the tables of a study are made of."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_csv


class Score(NamedTuple):
    """One number about one method.

    Attributes:
        condition: name of the condition.
        method: name of the row.
        run: the run that it comes from.
        model: which of the run's models.
        seed: of the run.
        site: name of the hospital, or "mean" or "worst" of the training hospitals.
        split: "val" or "test".
        metric: e.g. "dice".
        value: the number; NaN where it is not defined.
    """

    condition: str
    method: str
    run: str
    model: str
    seed: int
    site: str
    split: str
    metric: str
    value: float


class Cost(NamedTuple):
    """What a run cost.

    Attributes:
        condition: name of the condition.
        run: name of the run.
        seed: of the run.
        train_gradients: made by all sites in the rounds; None where the run did not count them.
        personalise_gradients: made by all sites for their personal models; None likewise.
        bytes: that crossed the sites' boundaries.
        seconds: that sites were busy, added up.
        losses: how often a site dropped out of a round; None where an older costs.csv does not say.
    """

    condition: str
    run: str
    seed: int
    train_gradients: int | None
    personalise_gradients: int | None
    bytes: int
    seconds: float
    losses: int | None


class Missing(NamedTuple):
    """A run that is not there, or a method that its run has no model for.

    Attributes:
        condition: name of the condition.
        run: name of the run.
        seed: of the run.
        reason: what is known about it.
    """

    condition: str
    run: str
    seed: int
    reason: str


class Records(NamedTuple):
    """The three tables."""

    scores: list[Score]
    costs: list[Cost]
    missing: list[Missing]


def write_records(folder: Path, records: Records) -> None:
    """Write the three files; a number keeps all its digits, and None is an empty cell."""
    for name, columns, rows in (
        ("scores.csv", Score._fields, records.scores),
        ("costs.csv", Cost._fields, records.costs),
        ("missing.csv", Missing._fields, records.missing),
    ):
        write_csv(folder / name, columns, rows)  # csv writes floats by repr, which reads the same


def read_records(folder: Path) -> Records:
    """Read what `write_records` wrote.

    Raises:
        ConfigError: a file is missing or has other columns.
    """
    return Records(
        [
            Score(condition, method, run, model, int(seed), site, split, metric, float(value))
            for condition, method, run, model, seed, site, split, metric, value in _read(
                folder / "scores.csv", Score._fields
            )
        ],
        [
            Cost(
                condition,
                run,
                int(seed),
                _count(train),
                _count(own),
                int(size),
                float(seconds),
                _count(losses),
            )
            for condition, run, seed, train, own, size, seconds, losses in _read(
                folder / "costs.csv", Cost._fields, newest="losses"
            )
        ],
        [
            Missing(condition, run, int(seed), reason)
            for condition, run, seed, reason in _read(folder / "missing.csv", Missing._fields)
        ],
    )


def _count(text: str) -> int | None:
    return int(text) if text else None


def _read(path: Path, columns: Sequence[str], newest: str = "") -> list[list[str]]:
    """The rows of a file; the last column, if `newest`, is empty where a file is older than it."""
    if not path.is_file():
        raise ConfigError(f"There is no {path}; run the study without --report-only first.")
    with path.open(newline="", encoding="utf-8") as file:
        found, *rows = list(csv.reader(file)) or [[]]
    if newest and [*found, newest] == list(columns):
        return [[*row, ""] for row in rows]
    if found != list(columns):
        raise ConfigError(f"Expected the columns {list(columns)} in {path}, but got {found}.")
    return rows
