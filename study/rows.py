"""Read and write scores.csv, costs.csv and missing.csv: all that a study's tables are made of."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text


class Score(NamedTuple):
    """One number about one method; NaN where it is not defined.

    `site` may also be "mean" or "worst", which are over the training sites.
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
    """What a run cost, all sites together.

    Attributes:
        train_gradients: made in the rounds.
        personalise_gradients: made for personal models.
        bytes: that crossed the sites' boundaries.
        seconds: that sites were busy.
        losses: how often a site dropped out of a round.
    """

    condition: str
    run: str
    seed: int
    train_gradients: int
    personalise_gradients: int
    bytes: int
    seconds: float
    losses: int


class Missing(NamedTuple):
    """A run that is not there, or a method that its run has no model for."""

    condition: str
    run: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.run}, seed {self.seed}: {self.reason}"


class Records(NamedTuple):
    """The three tables; their columns are the fields of `Score`, `Cost` and `Missing`."""

    scores: pd.DataFrame
    costs: pd.DataFrame
    missing: pd.DataFrame


Row = type[Score] | type[Cost] | type[Missing]
FILES: dict[str, Row] = {"scores.csv": Score, "costs.csv": Cost, "missing.csv": Missing}


def records_of(
    scores: Iterable[Score], costs: Iterable[Cost], missing: Iterable[Missing]
) -> Records:
    """Put rows into tables."""
    tables = (
        pd.DataFrame(list(rows), columns=list(kind._fields)).astype(kind.__annotations__)
        for rows, kind in zip((scores, costs, missing), FILES.values(), strict=True)
    )
    return Records(*tables)


def shown_scores(records: Records, metric: str) -> pd.DataFrame:
    """Return the scores that the tables are about."""
    scores = records.scores
    return scores[(scores.split == "test") & (scores.metric == metric)]


def write_records(folder: Path, records: Records) -> None:
    """Write the three files; a number keeps all its digits, and NaN is "nan"."""
    for name, table in zip(FILES, records, strict=True):
        write_text(folder / name, table.to_csv(index=False, na_rep="nan"))


def read_records(folder: Path) -> Records:
    """Read what `write_records` wrote.

    Raises:
        ConfigError: a file is missing or has other columns.
    """
    return Records(*(_read(folder / name, kind) for name, kind in FILES.items()))


def _read(path: Path, kind: Row) -> pd.DataFrame:
    if not path.is_file():
        raise ConfigError(f"There is no {path}; run the study without --report-only first.")
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)  # a site may be called "NA"
    if list(cells) != list(kind._fields):
        raise ConfigError(
            f"Expected the columns {list(kind._fields)} in {path}, but got {list(cells)}."
        )
    return cells.astype(kind.__annotations__)
