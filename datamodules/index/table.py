"""One CSV file with a row for each image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter

from datamodules.csv_file import read_cells
from datamodules.index.files import find_file, patient_of
from datamodules.index.index import Index, checked, class_number, fold_number, part_name
from datamodules.index.row import Row
from lightning_fl.errors import DataError


class Table(Index):
    """Read a CSV file, divided by commas, semicolons or tabs.

    Its columns are site, patient, image (or image_<channel>, in the order of the channels' names),
    mask, label (or label_<name> for several labels), split (train, val or test) and fold (0, 1,
    ...). Other columns can serve `ByColumn`. Every row needs a mask or a label; empty labels are
    missing ones, and an empty split is drawn. Suffixes of files may be left out.

    Args:
        path: the file.
        root: folder to which its paths are relative; null is the folder of the file.
        columns: the table's own name of a column, by the name above, or a text made of them, e.g.
            `{patient: lesion_id, label: dx, image: "images/{image_id}"}`.
        site: the hospital of all rows, where the table has no column for it.
        patient: where the table has no column for it: "file" makes each image a patient, called as
            its first file; a regular expression with one group searches the path of that file.
        classes: names of the labels, where they are texts; their order gives the class numbers.
        local_patients: whether patients of two hospitals may have one name.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        root: str | Path | None = None,
        columns: Mapping[str, str] | None = None,
        site: str | None = None,
        patient: str | None = None,
        classes: Sequence[str] = (),
        local_patients: bool = False,
    ) -> None:
        self.path = Path(path).expanduser()
        self.root = self.path.parent if root is None else Path(root).expanduser()
        self.columns = dict(columns or {})
        self.site = site
        self.patient = patient
        self.classes = tuple(classes)
        self.local_patients = local_patients

    def rows(self) -> tuple[Row, ...]:
        """Return the rows in their order."""
        table = read_cells(self.path)
        header = self._header([name for name in table.columns if name])
        lines = zip(table.index, table.to_dict("records"), strict=True)
        rows = [self._row(header, cells, f"{self.path}, line {line}") for line, cells in lines]
        if not rows:
            raise DataError(f"{self.path} has no row below its header; add one for each image.")
        return checked(rows, local_patients=self.local_patients)

    def _header(self, names: Sequence[str]) -> dict[str, str]:
        """Return the text of each column that has a meaning, e.g. "{image}"."""
        texts = {
            name: text if "{" in text else f"{{{text}}}" for name, text in self.columns.items()
        }
        given_away = {"split", "fold"} & {*self.columns.values()}  # FLamby's split is called fold
        header = {name: f"{{{name}}}" for name in names if name not in given_away} | texts
        fields = [field for text in texts.values() for _, field, *_ in Formatter().parse(text)]
        absent = [field for field in fields if field is not None and field not in names]
        given = {"site": self.site, "patient": self.patient}
        absent += [name for name, value in given.items() if not value and name not in header]
        if not _channels(header):
            absent.append("image")
        if not any(name == "mask" or name.startswith("label") for name in header):
            absent.append("mask or label")
        if absent:
            raise DataError(
                f"{self.path} has no column {', '.join(absent)}; its columns are {list(names)}. "
                "Add it, name the one that stands for it in `columns`, or set `site` or `patient` "
                "where that is the same or in the file's name."
            )
        return header

    def _row(self, header: Mapping[str, str], cells: Mapping[str, str], place: str) -> Row:
        def cell(name: str) -> str:
            return header.get(name, "").format_map(cells)

        site, files = self.site or cell("site"), [cell(name) for name in _channels(header)]
        patient = cell("patient")
        if self.patient and "patient" not in header and files[0]:
            patient = patient_of(files[0], self.patient, place)
        if not (site and patient and all(files)):
            raise DataError(f"{place}: site, patient or image is empty. Fill it in or remove it.")
        labels = {
            name.removeprefix("label_"): class_number(
                cell(name), self.classes, f"{place}, column {name}"
            )
            for name in header
            if name == "label" or name.startswith("label_")
        }
        if not (cell("mask") or labels):
            raise DataError(f"{place}: {files[0]} has no mask. Name it, or remove the row.")
        return Row(
            site,
            patient,
            tuple(find_file(self.root, name, place) for name in files),
            find_file(self.root, cell("mask"), place) if cell("mask") else None,
            labels,
            part_name(cell("split"), place),
            fold_number(cell("fold"), place),
            place,
            cells,
        )


def _channels(header: Mapping[str, str]) -> list[str]:
    """List the columns of images. By name, so that two hospitals' tables agree on the order."""
    if "image" in header:
        return ["image"]
    return sorted(name for name in header if name.startswith("image_"))
