"""Tables as CSV files, from whatever program wrote them."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning_fl.errors import DataError


@contextmanager
def open_table(path: Path) -> Iterator["csv.DictReader[str]"]:
    """Open a CSV file with a header; raise a DataError if it is none, or not in UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            yield csv.DictReader(stream)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table ({error}). Save it as CSV in UTF-8."
        ) from error


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each row, e.g. "folds.csv, line 3", and its cells in these columns.

    Raises:
        DataError: the file is no CSV in UTF-8, or it has no such column.
    """
    with open_table(path) as reader:
        header = reader.fieldnames or ()
        if not set(columns) <= set(header):
            raise DataError(f"{path} has the columns {list(header)}, but needs {list(columns)}.")
        for row in reader:
            # a cell is None where the line is too short
            yield f"{path}, line {reader.line_num}", [(row[c] or "").strip() for c in columns]
