"""The table of RAD-ChestCT: one row a volume, its patient, its label and its hospital."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.csv_file import read_cells
from datamodules.index.files import find_file
from datamodules.index.index import Index, checked
from datamodules.index.row import Row
from datamodules.rad_chest.site_rule import SiteRule
from lightning_fl.errors import ConfigError, DataError

VOLUME = "VolumeAcc_DEID"
NOTE = "NoteAcc_DEID"
PATIENT = "MRN_DEID"
NOT_FOUND = "ATTR_VALUE_NOT_FOUND"
"""What the table says where a scanner did not store something."""


class RadTable(Index):
    """List the volumes of a table; rows of hospitals that are not used need not be complete.

    Args:
        path: the table.
        folder: of the .npz files.
        label: column of the class numbers.
        classes: how many there are.
        patient: column of the patients; None is MRN_DEID or, in a table without it, NoteAcc_DEID.
        site: how a row's hospital is told.
        sites: hospitals to use; None is all.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        label: str,
        classes: int,
        patient: str | None,
        site: SiteRule,
        sites: Sequence[str] | None,
    ) -> None:
        self.path = path
        self.folder = folder
        self.label = label
        self.classes = classes
        self.patient = patient
        self.site = site
        self.sites = sites

    def rows(self) -> tuple[Row, ...]:
        """Return the rows, sorted by the names of their volumes."""
        if not self.folder.is_dir():
            raise ConfigError(
                f"There is no folder {self.folder} (looked in {Path.cwd()}); set `root`."
            )
        table = read_cells(self.path)
        patient = self._patient_column(list(table.columns))
        used, others = [], []
        for line, cells in zip(table.index, table.to_dict("records"), strict=True):
            place = f"{self.path}, line {line}"
            if self.sites is not None and cells[self.site.column] in ("", NOT_FOUND):
                continue
            site = self.site.name(_cell(cells, self.site.column, place), place)
            if self.sites is None or site in self.sites:
                used.append(self._row(site, cells, patient, place))
            else:
                others.append(Row(site, cells[patient], (), None, {}, None, None, place))
        used.sort(key=lambda row: row.images[0].name)
        return (*checked(used, local_patients=False), *others)

    def _patient_column(self, header: Sequence[str]) -> str:
        patient = self.patient or (PATIENT if PATIENT in header else NOTE)
        columns = (VOLUME, patient, self.label, self.site.column)
        missing = list(dict.fromkeys(column for column in columns if column not in header))
        if missing:
            raise ConfigError(
                f"{self.path} has no column {', '.join(map(repr, missing))}. Its columns are "
                f"{', '.join(header)}. Choose among them with `label`, `patient` and `sites_by`."
            )
        return patient

    def _row(self, site: str, cells: Mapping[str, str], patient: str, place: str) -> Row:
        name = _cell(cells, VOLUME, place).removesuffix(".npz")
        file = find_file(self.folder, f"{name}.npz", place)
        label = self._label(_cell(cells, self.label, place), place)
        return Row(
            site, _cell(cells, patient, place), (file,), None, {"label": label}, None, None, place
        )

    def _label(self, text: str, place: str) -> int:
        """Read a class number. "1.0" is one too, as tables with gaps are written."""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if value not in range(self.classes):
            raise DataError(
                f"{place}: {self.label} is {text!r}, but with `classes: {self.classes}` labels are "
                f"whole numbers from 0 to {self.classes - 1}. Correct or remove the row, or set "
                "`label` to another column."
            )
        return int(value)


def _cell(cells: Mapping[str, str], column: str, place: str) -> str:
    text = cells[column]
    if text in ("", NOT_FOUND):
        raise DataError(f"{place}: {column} is {text!r}. Fill it in, or remove the row.")
    return text
