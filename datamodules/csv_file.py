"""Tables as CSV files, from whatever program wrote them."""

from pathlib import Path

import pandas as pd

from lightning_fl.errors import ConfigError, DataError

DELIMITERS = ",;\t"


def read_cells(path: Path) -> pd.DataFrame:
    """Read a table with a header as texts without spaces around them.

    Columns are divided by commas, semicolons or tabs, whichever the header has most of. Blank rows
    are left out. The index holds the numbers of the lines; a missing cell is "".

    Raises:
        ConfigError: there is no such file.
        DataError: it is no table in UTF-8, or two columns have one name.
    """
    if not path.is_file():
        raise ConfigError(f"There is no table {path} (looked in {Path.cwd()}).")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            head = stream.readline()
        cells = pd.read_csv(
            path,
            sep=max(DELIMITERS, key=head.count),
            header=None,  # so that a row with more cells than the header is an error
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).strip()
        raise DataError(
            f"{path} cannot be read as a table ({reason}). Save it as CSV in UTF-8."
        ) from error
    cells = cells.fillna("").map(str.strip)
    names, table = cells.iloc[0], cells.iloc[1:]
    doubled = sorted(names[names.duplicated() & (names != "")])
    if doubled:
        raise DataError(f"{path} has two columns {doubled[0]!r}; rename or remove one.")
    table = table.set_axis(names.tolist(), axis="columns").set_axis(range(2, len(cells) + 1))
    return table[table.map(lambda cell: cell.strip(f"{DELIMITERS} ") != "").any(axis="columns")]
