"""metrics.csv, costs.csv, transcript.csv, and the table that ends a run on the terminal."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lightning_fl.files import read_csv, write_csv
from lightning_fl.results.formats import gain_text, heading, score_text
from lightning_fl.results.scores import ScoreRow, ScoreTable, score_table
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow


def write_metrics(path: Path, rows: Iterable[MetricRow]) -> None:
    """Write metrics.csv; a value keeps all its digits, so that reading it gives the same float."""
    write_csv(path, MetricRow._fields, ((*row[:5], repr(float(row.value))) for row in rows))


def read_metrics(path: Path) -> list[MetricRow]:
    """Read what `write_metrics` wrote; NaN and infinities come back as such.

    Raises:
        ValueError: the columns are not those of `MetricRow`.
    """
    return [
        MetricRow(int(round_), site, model, split, metric, float(value))
        for round_, site, model, split, metric, value in read_csv(path, MetricRow._fields)
    ]


def write_costs(path: Path, rows: Iterable[CostRow]) -> None:
    """Write costs.csv; seconds keep all their digits."""
    write_csv(path, CostRow._fields, ((*row[:5], repr(float(row.seconds))) for row in rows))


def read_costs(path: Path) -> list[CostRow]:
    """Read what `write_costs` wrote.

    Raises:
        ValueError: the columns are not those of `CostRow`.
    """
    return [
        CostRow(int(round_), site, operation, int(up), int(down), float(seconds))
        for round_, site, operation, up, down, seconds in read_csv(path, CostRow._fields)
    ]


def write_transcript(path: Path, rows: Iterable[TranscriptRow]) -> None:
    """Write transcript.csv; seconds keep all their digits."""
    write_csv(path, TranscriptRow._fields, ((*row[:-1], repr(float(row.seconds))) for row in rows))


def read_transcript(path: Path) -> list[TranscriptRow]:
    """Read what `write_transcript` wrote.

    Raises:
        ValueError: the columns are not those of `TranscriptRow`.
    """
    return [
        TranscriptRow(
            round=int(row["round"]),
            ring=row["ring"],
            step=int(row["step"]),
            operation=row["operation"],
            site=row["site"],
            direction=row["direction"],
            sender=row["sender"],
            recipient=row["recipient"],
            bytes=int(row["bytes"]),
            digest=row["digest"],
            seconds=float(row["seconds"]),
        )
        for row in (
            dict(zip(TranscriptRow._fields, cells, strict=True))
            for cells in read_csv(path, TranscriptRow._fields)
        )
    ]


def final_table(results: Mapping[str, Any], metric: str = "dice") -> Table:
    """Lay out the test scores of a finished run for the terminal.

    Args:
        results: what `summarise` returned, or results.json read back.
        metric: the metric to show, a fraction of one.

    Returns:
        One row for each site, then their mean and the worst of them; one column for each model, in
        percent, and the gain of the personal model in percentage points.
    """
    scores = score_table(results, metric)
    table = Table(title=f"Test {heading(metric)}")
    table.add_column("site")
    for column in [*scores.models, *(["gain"] if scores.has_gain else [])]:
        table.add_column(column, justify="right")
    for row in scores.sites:
        table.add_row(*_cells(scores, row))
    table.add_section()
    for row in scores.summary:
        table.add_row(*_cells(scores, row), style="bold")
    return table


def _cells(table: ScoreTable, row: ScoreRow) -> list[Text]:
    """Format a row; as Text, so that a site named "[red]" is not taken for markup."""
    label = f"{row.name} (unseen)" if row.unseen else row.name
    cells = [label, *(score_text(value, table.metric) for value in row.values)]
    if table.has_gain:
        cells.append(gain_text(row.gain, table.metric))
    return [Text(cell) for cell in cells]
