"""CSV files with fixed columns, as a run and a study write and read them."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_fl.atomic import write_text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file in one step."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path, header: Sequence[str]) -> list[list[str]]:
    """Read the rows of a CSV file that must have these columns.

    Raises:
        ValueError: it has others.
    """
    with path.open(newline="", encoding="utf-8") as file:
        found, *rows = list(csv.reader(file)) or [[]]
    if found != list(header):
        raise ValueError(f"Expected the columns {list(header)} in {path}, but got {found}.")
    return rows
