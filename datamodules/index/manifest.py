"""The patients, and parts, of images that lie in folders."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from datamodules.csv_file import read_cells
from datamodules.index.index import fold_number, part_name
from lightning_fl.errors import ConfigError, DataError

MANIFEST = "manifest.csv"
COLUMNS = ("site", "patient", "file")


@dataclass(frozen=True)
class Entry:
    """Hold what a manifest says of an image."""

    patient: str
    part: str | None
    fold: int | None


def read_manifest(path: Path) -> dict[tuple[str, str], Entry]:
    """Read the entries by (site, file name); the columns split and fold may be absent.

    Raises:
        ConfigError: there is no such file.
        DataError: a column or a cell is missing, or a file is listed twice.
    """
    if not path.is_file():
        raise ConfigError(
            f"`patient` is 'manifest', but there is no {path}. Write one with the columns "
            f"{', '.join(COLUMNS)}, or set `patient` to a regular expression with one group for "
            "the patient in a file name, or to 'file' if each image is another patient."
        )
    table = read_cells(path)
    if not set(COLUMNS) <= set(table.columns):
        raise DataError(f"{path} has the columns {list(table.columns)}, but needs {list(COLUMNS)}.")
    entries: dict[tuple[str, str], Entry] = {}
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        place = f"{path}, line {line}"
        site, patient, file = (row[column] for column in COLUMNS)
        if not (site and patient and file):
            raise DataError(f"{place}: site, patient or file is empty.")
        if (site, file) in entries:
            raise DataError(f"{place}: {file!r} of site {site!r} is listed twice; remove one row.")
        part = part_name(row.get("split", ""), place)
        entries[site, file] = Entry(patient, part, fold_number(row.get("fold", ""), place))
    return entries


def check_complete(
    path: Path, listed: Collection[tuple[str, str]], files: Collection[tuple[str, str]]
) -> None:
    """Refuse a manifest that names an image that is not there, or lacks one that is."""
    for site, file in sorted(set(listed) - set(files)):
        raise DataError(f"{path} names {file!r} of site {site!r}, but there is no such image.")
    for site, file in sorted(set(files) - set(listed)):
        raise DataError(
            f"{path} has no row for {file!r} of site {site!r}, so its patient is unknown; add a "
            "row or remove the image."
        )
