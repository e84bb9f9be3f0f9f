"""Which image belongs to which mask, hospital and patient, in `root/<site>/{images,masks}/`."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.csv_file import open_table
from datamodules.site_folders import site_names
from lightning_fl.errors import ConfigError, DataError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
MANIFEST = "manifest.csv"
COLUMNS = ("site", "patient", "file")


@dataclass(frozen=True)
class ImagePair:
    """One image file, its mask file and the patient they belong to."""

    patient: str
    image: Path
    mask: Path


def index_folder(
    root: Path, sites: Sequence[str] | None, patient: str
) -> dict[str, tuple[ImagePair, ...]]:
    """List every hospital's files, sorted by name, without opening an image.

    Args:
        root: folder of the hospitals' folders.
        sites: which of them, in this order; None is all, by name.
        patient: "manifest", "file" or a regular expression, see `ImageFolder`.

    Raises:
        ConfigError: there is no such folder, hospital or rule for patients.
        DataError: an image without mask, a mask without image, or an image without patient.
    """
    names = site_names(root, sites)
    pairs = {name: _image_and_mask(root / name, name) for name in names}
    images = {name: list(found) for name, found in pairs.items()}
    patients = _patients(root, images, patient, every_site=sites is None)
    return {
        name: tuple(ImagePair(patients[image], image, mask) for image, mask in found.items())
        for name, found in pairs.items()
    }


def _image_and_mask(folder: Path, site: str) -> dict[Path, Path]:
    """Each image of a hospital with its mask: the file of the same name, but for the suffix."""
    images, masks = (_by_stem(folder / part, site) for part in ("images", "masks"))
    for stem, image in images.items():
        if stem not in masks:
            raise DataError(
                f"Site {site!r}: image {image} has no mask; add {folder / 'masks' / image.name} or "
                "remove the image."
            )
    for stem, mask in masks.items():
        if stem not in images:
            raise DataError(f"Site {site!r}: mask {mask} has no image; add it or remove the mask.")
    return {image: masks[stem] for stem, image in images.items()}


def _by_stem(folder: Path, site: str) -> dict[str, Path]:
    """Image files of a folder by their name without suffix."""
    if not folder.is_dir():
        raise DataError(
            f"Site {site!r} has no folder {folder}. Expected <site>/images and <site>/masks; name "
            "the folders that are hospitals in `sites` if this is none."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise DataError(
                f"Site {site!r}: {files[path.stem]} and {path} differ only in their suffix, so "
                "which image has which mask is not clear; rename or remove one."
            )
        files[path.stem] = path
    if not files:
        raise DataError(f"Site {site!r}: {folder} holds no image; expected {', '.join(SUFFIXES)}.")
    return files


def _patients(
    root: Path, images: Mapping[str, Sequence[Path]], rule: str, *, every_site: bool
) -> dict[Path, str]:
    """The patient of each image."""
    if rule == "manifest":
        return _patients_by_manifest(root / MANIFEST, images, every_site=every_site)
    files = [path for paths in images.values() for path in paths]
    if rule == "file":
        return {path: path.stem for path in files}
    return _patients_by_pattern(rule, files)


def _patients_by_pattern(rule: str, files: Sequence[Path]) -> dict[Path, str]:
    """The only group of a regular expression, searched in each file's name."""
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"`patient` is {rule!r}, no regular expression: {error}.") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"`patient` is {rule!r} with {pattern.groups} groups; expected 'manifest', 'file' or a "
            "regular expression with one group, the patient, e.g. '^(P[0-9]+)_'."
        )
    patients = {}
    for path in files:
        match = pattern.search(path.name)
        if match is None or not match[1]:
            raise DataError(f"`patient` {rule!r} finds no patient in the name of {path}.")
        patients[path] = match[1]
    return patients


def _patients_by_manifest(
    path: Path, images: Mapping[str, Sequence[Path]], *, every_site: bool
) -> dict[Path, str]:
    """What the manifest says, which has to name each image once and nothing else."""
    listed = _read_manifest(path)
    if not every_site:  # rows of hospitals that were left out on purpose
        listed = {key: patient for key, patient in listed.items() if key[0] in images}
    found = {(site, image.name): image for site, paths in images.items() for image in paths}
    for site, file in listed.keys() - found.keys():
        raise DataError(f"{path} names {file!r} of site {site!r}, but there is no such image.")
    for key in sorted(found.keys() - listed.keys()):
        raise DataError(
            f"{path} has no row for {found[key]}, so its patient is unknown; add a row or remove "
            "the image."
        )
    return {image: listed[key] for key, image in found.items()}


def _read_manifest(path: Path) -> dict[tuple[str, str], str]:
    """Patients by (site, file name); columns other than site, patient and file are ignored."""
    if not path.is_file():
        raise ConfigError(
            f"`patient` is 'manifest', but there is no {path}. Write one with the columns "
            f"{', '.join(COLUMNS)}, or set `patient` to a regular expression with one group for "
            "the patient in a file name, or to 'file' if each image is another patient."
        )
    with open_table(path) as reader:
        header = reader.fieldnames or ()
        if not set(COLUMNS) <= set(header):
            raise DataError(f"{path} has the columns {list(header)}, but needs {list(COLUMNS)}.")
        return _unique_rows(path, reader)


def _unique_rows(path: Path, reader: "csv.DictReader[str]") -> dict[tuple[str, str], str]:
    patients: dict[tuple[str, str], str] = {}
    for row in reader:
        site, patient, file = ((row[column] or "").strip() for column in COLUMNS)
        if not (site and patient and file):
            raise DataError(f"{path}, line {reader.line_num}: site, patient or file is empty.")
        if (site, file) in patients:
            raise DataError(
                f"{path}, line {reader.line_num}: {file!r} of site {site!r} is listed twice; "
                "remove one row."
            )
        patients[site, file] = patient
    return patients
