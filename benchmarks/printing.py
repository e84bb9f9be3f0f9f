"""Parse a benchmark's command line, print its tables row by row, and save them as CSV."""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lightning_fl.files import write_csv

Row = Mapping[str, object]
"""Cells by the names of their columns."""


def command_line(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser that knows where the table NAME goes; nothing but tables is printed now."""
    silence()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--csv", type=Path, default=Path("runs/benchmarks", f"{name}.csv"))
    return parser


def silence() -> None:
    """Drop the words of Lightning and all warnings in this process."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def say(text: str) -> None:
    """Print a line at once, for the next may take minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_table(rows: Iterable[Row]) -> list[Row]:
    """Print a Markdown table, each row as soon as it is there, and return the rows."""
    shown: list[Row] = []
    for row in rows:
        if not shown:
            _say_cells(list(row))
            _say_cells(["---"] * len(row))
        _say_cells([str(cell) for cell in row.values()])
        shown.append(row)
    return shown


def _say_cells(cells: Sequence[str]) -> None:
    say(f"| {' | '.join(cells)} |")


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a CSV file; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, list(rows[0]), [row.values() for row in rows])
