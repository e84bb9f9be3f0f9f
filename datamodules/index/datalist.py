"""Lists of images as JSON, as MONAI, NVFlare and the Medical Segmentation Decathlon write them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.index.files import find_file, patient_of
from datamodules.index.index import Index, checked, class_number, fold_number, part_name
from datamodules.index.json_file import read_json
from datamodules.index.row import Row
from lightning_fl.errors import ConfigError, DataError

SECTIONS = ("training", "validation", "testing", "test")


class Datalist(Index):
    """Read a MONAI datalist for each hospital.

    A list has entries `{"image": ..., "label": ...}` under training, validation and testing (or
    test). An image is a path, or a list of them as channels. A label is the path of a mask, a class
    number or a list of 0 and 1, which become the labels "0", "1", ... An entry may name its
    "patient" and its "fold". Entries of test without label are left out.

    Args:
        files: the list of each hospital, by its name.
        root: folder to which paths are relative; null is the folder of each list.
        patient: where entries name none: "file" makes each image a patient, called as its first
            file; a regular expression with one group searches the path of that file.
    """

    def __init__(
        self,
        files: Mapping[str, str | Path],
        *,
        root: str | Path | None = None,
        patient: str = "file",
    ) -> None:
        if not files:
            raise ConfigError("Expected a list for each hospital in `files`, but got none.")
        self.files = {site: Path(path).expanduser() for site, path in files.items()}
        self.root = None if root is None else Path(root).expanduser()
        self.patient = patient

    def rows(self) -> tuple[Row, ...]:
        """Return the rows, hospital by hospital, in their order."""
        return checked(
            (row for site, path in self.files.items() for row in self._rows(site, path)),
            local_patients=True,
        )

    def _rows(self, site: str, path: Path) -> Iterator[Row]:
        content = read_json(path, dict)
        if not any(isinstance(content.get(section), list) for section in SECTIONS):
            raise DataError(f"{path} has none of the lists {', '.join(SECTIONS)}; add training.")
        places: dict[str, str] = {}
        for section in SECTIONS:
            for number, entry in enumerate(content.get(section) or (), start=1):
                place = f"{path}, {section} {number}"
                if not isinstance(entry, dict) or "label" not in entry:
                    if part_name(section, place) == "test":
                        continue
                    raise DataError(f"{place} has no label; add it or remove the entry.")
                row = self._row(site, path, entry, section, place)
                first = places.setdefault(row.patient, place)
                if self.patient == "file" and "patient" not in entry and first != place:
                    raise DataError(
                        f"{place}: the image is called {row.patient!r} as in {first}, so patients "
                        'cannot be told apart. Give entries a "patient", or set `patient` to a '
                        "regular expression that finds it in the path."
                    )
                yield row

    def _row(
        self, site: str, path: Path, entry: Mapping[str, Any], section: str, place: str
    ) -> Row:
        root = path.parent if self.root is None else self.root
        images, label = entry.get("image"), entry["label"]
        if not images:
            raise DataError(f"{place} has no image; add it or remove the entry.")
        names = [images] if isinstance(images, str) else images
        labels: Sequence[Any] = label if isinstance(label, list) else [label]
        is_mask = isinstance(label, str)
        return Row(
            site,
            str(entry.get("patient") or patient_of(names[0], self.patient, place)),
            tuple(find_file(root, name, place) for name in names),
            find_file(root, label, place) if is_mask else None,
            {} if is_mask else _numbers(labels, place, single=not isinstance(label, list)),
            self._part(section, place),
            fold_number(str(entry.get("fold", "")), place),
            place,
        )

    def _part(self, section: str, place: str) -> str | None:
        return part_name(section, place)


class Decathlon(Datalist):
    """Read dataset.json of the Medical Segmentation Decathlon, whose split is drawn.

    Args:
        path: the file, or the folder that holds it.
        site: name of the hospital that all scans are of; `partition` makes several of it. null is
            the name of the folder.
        patient: as `Datalist` has it.
    """

    def __init__(self, path: str | Path, *, site: str | None = None, patient: str = "file") -> None:
        file = Path(path).expanduser()
        file = file / "dataset.json" if file.is_dir() else file
        super().__init__({site or file.resolve().parent.name: file}, patient=patient)

    def _part(self, section: str, place: str) -> str | None:
        return None  # only its training scans have masks


def _numbers(values: Sequence[Any], place: str, *, single: bool) -> dict[str, float]:
    texts = ["" if value is None else str(value) for value in values]
    return {
        "label" if single else str(number): class_number(text, (), place)
        for number, text in enumerate(texts)
    }
