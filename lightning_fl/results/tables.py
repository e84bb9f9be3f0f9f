"""metrics.csv, costs.csv, transcript.csv, and the table that ends a run on the terminal."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from rich.table import Table
from rich.text import Text

from lightning_fl.files import read_csv, write_csv
from lightning_fl.results.case_statistics import (
    FEW_PATIENTS,
    SiteCases,
    has_few_patients,
    marked,
    of_test_patients,
)
from lightning_fl.results.formats import heading, spread_text
from lightning_fl.results.scores import ScoreRow, ScoreTable, score_table
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow

Row = TypeVar("Row", bound=NamedTuple)


def write_rows(kind: type[Row], path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file whose columns are the fields of a named tuple.

    A number keeps all its digits, so that reading it gives the same number.
    """
    types = get_type_hints(kind).values()
    cells = ((convert(cell) for convert, cell in zip(types, row, strict=True)) for row in rows)
    write_csv(path, kind._fields, cells)


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """Read what `write_rows` wrote; NaN and infinities come back as such.

    Raises:
        ValueError: the columns are not the fields of `kind`.
    """
    types = get_type_hints(kind).values()
    return [
        kind._make(convert(cell) for convert, cell in zip(types, cells, strict=True))
        for cells in read_csv(path, kind._fields)
    ]


write_metrics, read_metrics = partial(write_rows, MetricRow), partial(read_rows, MetricRow)
write_costs, read_costs = partial(write_rows, CostRow), partial(read_rows, CostRow)
write_transcript = partial(write_rows, TranscriptRow)
read_transcript = partial(read_rows, TranscriptRow)


def final_table(results: Mapping[str, Any], metric: str) -> Table:
    """Lay out the test scores of a finished run for the terminal.

    Args:
        results: what `summarise` returned, or results.json read back.
        metric: the metric to show.
    """
    scores, cases = score_table(results, metric), results.get("cases", {})
    label, *columns = scores.columns
    table = Table(label, title=f"Test {heading(metric)}")
    if any(map(has_few_patients, cases.values())):
        table.caption = FEW_PATIENTS
    for column in columns:
        table.add_column(column, justify="right")
    # As Text, so that a site named "[red]" is not taken for markup.
    for row in scores.sites:
        cells = dict(zip(scores.columns, scores.texts(row), strict=True))
        if row.name in cases:
            cells |= _with_cases(cells, scores, row, cases[row.name])
        table.add_row(*map(Text, cells.values()))
    table.add_section()
    for row in scores.summary:
        table.add_row(*map(Text, scores.texts(row)), style="bold")
    return table


def _with_cases(
    cells: Mapping[str, str], scores: ScoreTable, row: ScoreRow, cases: SiteCases
) -> dict[str, str]:
    """Add the standard deviation over patients to a row's last model, and the mark of few."""
    model, metric = scores.compared[-1], scores.metric
    sd = of_test_patients(cases, model, metric).get("sd")
    site = scores.columns[0]
    return {
        site: marked(cells[site], cases),
        model: spread_text(row.values.get(model), sd, metric),
    }
