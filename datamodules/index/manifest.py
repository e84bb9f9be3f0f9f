"""What a table says of images, or of patients, that lie in folders."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from datamodules.csv_file import read_cells
from datamodules.index.index import fold_number, part_name
from lightning_fl.errors import DataError

MANIFEST = "manifest.csv"
COLUMNS = ("site", "patient", "file")


@dataclass(frozen=True)
class Entry:
    """Hold what a table says of an image or a patient, and in which line."""

    patient: str
    part: str | None
    fold: int | None
    place: str


def read_manifest(path: Path, key: str) -> dict[tuple[str, str], Entry]:
    """Read the entries by site and `key`: the column file or patient.

    The columns split and fold may be absent.

    Raises:
        ConfigError: there is no such table.
        DataError: a column or a cell is missing, or an image or patient is listed twice.
    """
    table = read_cells(path)
    needed = list(dict.fromkeys(("site", "patient", key)))
    if not set(needed) <= set(table.columns):
        raise DataError(f"{path} has the columns {list(table.columns)}, but needs {needed}.")
    entries: dict[tuple[str, str], Entry] = {}
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        place = f"{path}, line {line}"
        site, patient, name = row["site"], row["patient"], row[key]
        if not (site and patient and name):
            raise DataError(f"{place}: {', '.join(needed)} cannot be empty; fill it in.")
        if (site, name) in entries:
            raise DataError(f"{place}: {name!r} of site {site!r} is listed twice; remove one row.")
        part, fold = part_name(row.get("split", ""), place), fold_number(row.get("fold", ""), place)
        entries[site, name] = Entry(patient, part, fold, place)
    return entries


def check_complete(
    path: Path, listed: Mapping[tuple[str, str], Entry], names: Collection[tuple[str, str]]
) -> None:
    """Refuse a table that names an image or patient that is not there, or lacks one that is."""
    for site, name in sorted(set(listed) - set(names)):
        raise DataError(
            f"{listed[site, name].place} names {name!r} of site {site!r}, but it is not there; "
            "remove the row, or add it."
        )
    for site, name in sorted(set(names) - set(listed)):
        raise DataError(
            f"{path} has no row for {name!r} of site {site!r}; add one, or take it out of the data."
        )
