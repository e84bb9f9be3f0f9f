"""Images in folders whose names say what they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.index.files import SUFFIXES, patient_of
from datamodules.index.index import Index, checked, class_number, part_name
from datamodules.index.manifest import COLUMNS, MANIFEST, Entry, check_complete, read_manifest
from datamodules.index.row import Row
from datamodules.index.template import Template
from datamodules.site_folders import site_names
from lightning_fl.errors import ConfigError, DataError


class Folders(Index):
    """Find images by paths with placeholders, relative to one root.

    Placeholders are {site}, {part} (train, val or test), {patient}, {label} (the folder of a class)
    and {name}. A suffix may be left out. Without {site} all images are of one hospital, which is
    called as the root.

    | layout | images | masks |
    |---|---|---|
    | folders of images and masks | `{site}/images/{name}` | `{site}/masks/{name}` |
    | the same with a suffix, in parts | `{site}/{part}/image/{name}` | `{site}/{part}/mask/{name}_mask` |
    | all in one folder | `{site}/{name}` | `{site}/{name}_segmentation` |
    | a folder a patient | `{site}/{patient}/ct` | `{site}/{patient}/mask` |
    | several channels | `[{site}/{patient}/{patient}_t1, {site}/{patient}/{patient}_t2]` | `{site}/{patient}/{patient}_seg` |
    | a folder a class | `{site}/{label}/{name}` | null |

    Args:
        root: folder of all files.
        images: path of an image, or one for each channel.
        masks: path of its mask; null where images have a {label}.
        patient: where there is no {patient}: "file" makes each image a patient, called as its
            placeholders; a regular expression with one group searches the file's name; "manifest" reads
            `root/manifest.csv` with the columns site, patient, file and, if wished, split and fold.
        sites: hospitals to look for; null is all.
        classes: names of the folders {label}; their order gives the class numbers.
    """  # noqa: E501  (rows of a table)

    def __init__(
        self,
        root: str | Path,
        *,
        images: str | Sequence[str] = "{site}/images/{name}",
        masks: str | None = "{site}/masks/{name}",
        patient: str = "file",
        sites: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.root = Path(root).expanduser()
        self.images = [Template(text) for text in ([images] if isinstance(images, str) else images)]
        self.masks = None if masks is None else Template(masks)
        self.patient = patient
        self.sites = sites
        self.classes = tuple(classes)
        fields = set(self.images[0].fields)
        others = [*self.images[1:], *([] if self.masks is None else [self.masks])]
        if any(not set(other.fields) <= fields for other in others):
            raise ConfigError(
                f"{others[-1].text!r} has placeholders that {self.images[0].text!r} lacks, so "
                "which files belong together is not clear."
            )
        if self.masks is None and "label" not in fields:
            raise ConfigError("Images need `masks`, or a folder {label} in `images`.")
        if "label" in fields and not classes:
            raise ConfigError("List the folders that {label} stands for in `classes`, in order.")

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each image, sorted by path."""
        template, sites = self.images[0], self.sites
        by_folder = template.text.startswith("{site}/")
        if by_folder or not self.root.is_dir():
            sites = site_names(self.root, self.sites)
        files = template.find(self.root, sites)
        masks = {} if self.masks is None else self.masks.find(self.root, sites)
        if self.masks is not None and self.masks.text != template.text:
            taken = set(masks.values())  # "{name}" alone matches "{name}_mask", too
            files = {key: path for key, path in files.items() if path not in taken}
        site = {"site": self.root.resolve().name}
        images = {path: site | template.values(key) for key, path in files.items()}
        self._check_sites(sites if by_folder and sites else (), images)
        entries = self._entries(images)
        channels = [(other, other.find(self.root, sites)) for other in self.images[1:]]
        rows = []
        for path, values in images.items():
            others = [self._partner(path, "channel", values, *pair) for pair in channels]
            mask = None
            if self.masks is not None:
                mask = self._partner(path, "mask", values, self.masks, masks)
            rows.append(self._row((path, *others), mask, values, entries.get(path)))
        for extra in sorted(set(masks.values()) - {row.mask for row in rows}):
            raise DataError(f"Mask {extra} has no image; add it, or remove the mask.")
        return checked(rows, local_patients=True)

    def _check_sites(self, sites: Sequence[str], images: Mapping[Path, Mapping[str, str]]) -> None:
        """Refuse a hospital without images."""
        there = {values["site"] for values in images.values()}
        for site in sites:
            if site not in there:
                folder = self.root / Path(self.images[0].text.replace("{site}", site)).parent
                raise DataError(
                    f"Site {site!r}: {folder} holds no image; expected {', '.join(SUFFIXES)}. Name "
                    "the folders that are hospitals in `sites` if this is none."
                )
        if not images:
            raise DataError(
                f"No image in {self.root} is called {self.images[0].text!r}; correct `images`."
            )

    def _partner(
        self,
        image: Path,
        what: str,
        values: Mapping[str, str],
        template: Template,
        files: Mapping[tuple[str, ...], Path],
    ) -> Path:
        """Return the file of a template that belongs to an image."""
        path = files.get(tuple(values[field] for field in template.fields))
        if path is None:
            raise DataError(
                f"Image {image} has no {what}; add {self.root / template.fill(values)} with a "
                "suffix, or remove the image."
            )
        return path

    def _entries(self, images: Mapping[Path, Mapping[str, str]]) -> dict[Path, Entry]:
        """Look up in the manifest what it says of each image."""
        if self.patient != "manifest":
            return {}
        path = self.root / MANIFEST
        if not path.is_file():
            raise ConfigError(
                f"`patient` is 'manifest', but there is no {path}. Write one with the columns "
                f"{', '.join(COLUMNS)}, or set `patient` to a regular expression with one group "
                "for the patient in a file name, or to 'file' if each image is another patient."
            )
        listed = read_manifest(path, "file")
        if self.sites is not None:  # rows of hospitals that were left out on purpose
            listed = {key: entry for key, entry in listed.items() if key[0] in self.sites}
        keys = {(values["site"], image.name): image for image, values in images.items()}
        check_complete(path, listed, keys)
        return {image: listed[key] for key, image in keys.items()}

    def _row(
        self,
        images: tuple[Path, ...],
        mask: Path | None,
        values: Mapping[str, str],
        entry: Entry | None,
    ) -> Row:
        place = str(images[0])
        if entry is None:
            if "patient" in values:
                patient = values["patient"]
            elif self.patient == "file":  # 1.png in two folders is two images
                patient = "_".join(text for field, text in values.items() if field != "site")
            else:
                patient = patient_of(images[0].name, self.patient, place)
            entry = Entry(patient, part_name(values.get("part", ""), place), None, place)
        label = values.get("label")
        labels = {} if label is None else {"label": class_number(label, self.classes, place)}
        return Row(
            values["site"], entry.patient, images, mask, labels, entry.part, entry.fold, place
        )
