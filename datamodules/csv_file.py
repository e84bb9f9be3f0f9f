"""Tables as CSV files, from whatever program wrote them."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fl.errors import DataError


@contextmanager
def open_table(path: Path) -> Iterator["csv.DictReader[str]"]:
    """A CSV file with a header, with or without a byte order mark.

    Raises:
        DataError: inside the block, the file is no CSV in UTF-8; names it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            yield csv.DictReader(stream)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table ({error}). Save it as CSV in UTF-8."
        ) from error
