"""Write files in one step, so that a stopped machine leaves the old file or the new one."""

import csv
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step.

    The data goes to a new hidden file in the same folder, is forced to the disk, and then takes
    the place of `path`. A process killed on the way leaves at most that hidden `.tmp` file behind.

    Args:
        path: file to write; its folder must exist.
        data: the whole content.

    Raises:
        OSError: the file could not be written; `path` is as it was.
    """
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file in one step by one that the caller writes, for content too large to hold.

    Args:
        path: file to replace; its folder must exist.

    Yields:
        Where to write; it takes the place of `path` when the block ends without an error.
    """
    # Not tempfile.mkstemp: its files are readable by their owner only, whatever the umask says.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step, as UTF-8 and with line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


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
        columns, *rows = list(csv.reader(file)) or [[]]
    if columns != list(header):
        raise ValueError(f"Expected the columns {list(header)} in {path}, but got {columns}.")
    return rows


def _sync_folder(folder: Path) -> None:
    """Force the folder's entries to the disk: without it a power cut can undo the rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
