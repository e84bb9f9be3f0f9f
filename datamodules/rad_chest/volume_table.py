"""The table of RAD-ChestCT: one row a volume, its patient, its label and its hospital."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.csv_file import read_cells
from datamodules.rad_chest.site_rule import SiteRule
from lightning_fl.errors import ConfigError, DataError

VOLUME = "VolumeAcc_DEID"
NOTE = "NoteAcc_DEID"
PATIENT = "MRN_DEID"
NOT_FOUND = "ATTR_VALUE_NOT_FOUND"
"""What the table says where a scanner did not store something."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class LabelledVolume:
    """A volume's file and what the table says of it."""

    name: str
    path: Path
    patient: str
    label: int
    site: str


@dataclass(frozen=True)
class TableRule:
    """Which columns to read, and how.

    Attributes:
        label: column of the class numbers.
        classes: how many there are.
        patient: column of the patients; None is MRN_DEID or, in a table without it, NoteAcc_DEID.
        site: how a row's hospital is told.
    """

    label: str
    classes: int
    patient: str | None
    site: SiteRule


def read_table(
    path: Path, folder: Path, rule: TableRule, sites: Sequence[str] | None
) -> dict[str, tuple[LabelledVolume, ...]]:
    """List every hospital's volumes, sorted by name; none is opened.

    Args:
        path: the table.
        folder: of the .npz files.
        rule: which columns count.
        sites: hospitals to use, in this order; None is all of them, sorted.

    Raises:
        ConfigError: there is no such table, folder, column or hospital.
        DataError: a row cannot be used, or a patient is at two hospitals.
    """
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} (looked in {Path.cwd()}); set `root`.")
    of_site: dict[str, list[LabelledVolume]] = defaultdict(list)
    every_site: set[str] = set()
    for volume in _volumes(path, folder, rule, sites, every_site):
        of_site[volume.site].append(volume)
    names = tuple(sorted(of_site) if sites is None else sites)
    if not names or len(set(names)) < len(names) or not set(names) <= set(of_site):
        raise ConfigError(
            f"`sites` is {None if sites is None else list(sites)}, but has to name hospitals of "
            f"{path} once each; by {rule.site.column!r} there are {sorted(every_site)}."
        )
    index = {name: tuple(sorted(of_site[name], key=lambda v: v.name)) for name in names}
    chosen = [volume for name in names for volume in index[name]]
    _check_files(path, chosen)
    _check_patients(path, chosen, rule.site.column)
    return index


def _volumes(
    path: Path, folder: Path, rule: TableRule, sites: Sequence[str] | None, every_site: set[str]
) -> Iterator[LabelledVolume]:
    """Yield the volumes of `sites`, and put the names of all hospitals into `every_site`.

    Rows of other hospitals need not be complete.
    """
    names: set[str] = set()
    for where, row, patient in _rows(path, rule):
        name = _cell(row, VOLUME, where).removesuffix(".npz")
        if name in names:
            raise DataError(f"{where}: {VOLUME} {name!r} is listed twice; remove one row.")
        names.add(name)
        if sites is not None and row[rule.site.column] in ("", NOT_FOUND):
            continue
        site = rule.site.name(_cell(row, rule.site.column, where), where)
        every_site.add(site)
        if sites is None or site in sites:
            label = _label(_cell(row, rule.label, where), rule, where)
            file = folder / f"{name}.npz"
            yield LabelledVolume(name, file, _cell(row, patient, where), label, site)


def _rows(path: Path, rule: TableRule) -> Iterator[tuple[str, Row, str]]:
    """Yield the place of each row, the row, and the column of patients."""
    if not path.is_file():
        raise ConfigError(f"There is no table {path}; set `metadata` to its name in `root`.")
    table = read_cells(path)
    header = list(table.columns)
    patient = rule.patient or (PATIENT if PATIENT in header else NOTE)
    columns = (VOLUME, patient, rule.label, rule.site.column)
    missing = list(dict.fromkeys(column for column in columns if column not in header))
    if missing:
        raise ConfigError(
            f"{path} has no column {', '.join(map(repr, missing))}. Its columns are "
            f"{', '.join(header)}. Choose among them with `label`, `patient` and `sites_by`."
        )
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        yield f"{path}, line {line}", row, patient


def _cell(row: Row, column: str, where: str) -> str:
    text = row[column]
    if text in ("", NOT_FOUND):
        raise DataError(f"{where}: {column} is {text!r}. Fill it in, or remove the row.")
    return text


def _label(text: str, rule: TableRule, where: str) -> int:
    """Read a class number. "1.0" is one too, as tables with gaps are written."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value not in range(rule.classes):
        raise DataError(
            f"{where}: {rule.label} is {text!r}, but with `classes: {rule.classes}` labels are "
            f"whole numbers from 0 to {rule.classes - 1}. Correct or remove the row, or set "
            "`label` to another column."
        )
    return int(value)


def _check_files(path: Path, volumes: Sequence[LabelledVolume]) -> None:
    missing = [volume.path for volume in volumes if not volume.path.is_file()]
    if missing:
        raise DataError(
            f"{path} names {len(missing)} of {len(volumes)} volumes that are not there, the first "
            f"being {missing[0]}. Add the files, or remove their rows."
        )


def _check_patients(path: Path, volumes: Sequence[LabelledVolume], column: str) -> None:
    """Refuse a patient at two hospitals, who could train at one and be tested at the other."""
    homes: dict[str, LabelledVolume] = {}
    for volume in volumes:
        first = homes.setdefault(volume.patient, volume)
        if first.site != volume.site:
            raise DataError(
                f"{path}: patient {volume.patient!r} is at site {first.site!r} with {first.name} "
                f"and at site {volume.site!r} with {volume.name}. Give both rows the same "
                f"{column}, or remove one."
            )
