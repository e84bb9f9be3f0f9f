"""Test scores of several runs side by side, with the differences to the first one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_fl.results.formats import gain_text, score_text
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import ScoreRow, ScoreTable, score_table


@dataclass(frozen=True)
class ComparedScores:
    """Hold one metric of several runs.

    Attributes:
        table: a column for each run, in the place of a model.
        models: the model of each run that is shown, by the run's name.
    """

    table: ScoreTable
    models: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """Return the headings of `texts`."""
        first, *others = self.models
        return ["site", *self.models, *(f"{other} minus {first}" for other in others)]

    def texts(self, row: ScoreRow) -> list[str]:
        """Return the cells of a row: each run's score, then the differences to the first run."""
        first, *others = row.values.values()
        metric = self.table.metric
        scores = [score_text(value, metric) for value in row.values.values()]
        return [row.label, *scores, *(gain_text(other - first, metric) for other in others)]

    @property
    def same_sites(self) -> bool:
        """Return whether every site has a score in every run."""
        return all(math.isfinite(v) for row in self.table.sites for v in row.values.values())


def compare_scores(runs: Mapping[str, RunFolder], metric: str, *, own: bool) -> ComparedScores:
    """Put a test metric of all runs side by side.

    Args:
        runs: by name.
        metric: one that all runs have.
        own: show each site's own model where a run has them; else the models before.
    """
    tables = {name: score_table(run.results, metric) for name, run in runs.items()}
    models = {name: table.compared[-1 if own else 0] for name, table in tables.items()}
    sites: dict[str, bool] = {}
    for site in (row for table in tables.values() for row in table.sites):
        sites[site.name] = sites.get(site.name, True) and site.unseen  # it trained in some run
    columns = {
        name: {
            row.name: row.values.get(models[name], math.nan)
            for row in (*table.sites, *table.summary)
        }
        for name, table in tables.items()
    }

    def row(name: str, unseen: bool = False) -> ScoreRow:
        values = {run: column.get(name, math.nan) for run, column in columns.items()}
        return ScoreRow(name, values, unseen=unseen)

    rows = tuple(row(site, unseen) for site, unseen in sites.items())
    both = row("mean"), row("worst")
    return ComparedScores(ScoreTable(metric, tuple(runs), rows, both), models)
