"""A table as a benchmark prints it, line by line, and as a file."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_fl.files import write_csv


def say_head(header: Sequence[str]) -> None:
    """Print the head of a Markdown table."""
    say_row(header)
    say_row(["---"] * len(header))


def say_row(cells: Sequence[str]) -> None:
    """Print one row of it, at once, for the next may take minutes."""
    sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.flush()


def save(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, header, rows)
