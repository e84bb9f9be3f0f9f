"""Which image belongs to which mask, hospital and patient, in `root/<site>/{images,masks}/`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.csv_file import read_rows
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
    masks = {name: _mask_of_image(root / name, name) for name in site_names(root, sites)}
    images = {name: list(pairs) for name, pairs in masks.items()}
    patients = _patients(root, images, patient, every_site=sites is None)
    return {
        name: tuple(ImagePair(patients[image], image, mask) for image, mask in pairs.items())
        for name, pairs in masks.items()
    }


def _mask_of_image(folder: Path, site: str) -> dict[Path, Path]:
    """Find the mask of each image: the file of the same name, but for the suffix."""
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
    """List the image files of a folder by their name without suffix."""
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
    """Tell the patient of each image."""
    if rule == "manifest":
        return _patients_by_manifest(root / MANIFEST, images, every_site=every_site)
    files = [path for paths in images.values() for path in paths]
    if rule == "file":
        return {path: path.stem for path in files}
    return _patients_by_pattern(rule, files)


def _patients_by_pattern(rule: str, files: Sequence[Path]) -> dict[Path, str]:
    """Search each file's name for the only group of a regular expression."""
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
    """Look patients up in the manifest, which has to name each image once and nothing else."""
    listed = _read_manifest(path)
    if not every_site:  # rows of hospitals that were left out on purpose
        listed = {key: patient for key, patient in listed.items() if key[0] in images}
    files = {(site, image.name): image for site, paths in images.items() for image in paths}
    for site, file in listed.keys() - files.keys():
        raise DataError(f"{path} names {file!r} of site {site!r}, but there is no such image.")
    for key in sorted(files.keys() - listed.keys()):
        raise DataError(
            f"{path} has no row for {files[key]}, so its patient is unknown; add a row or remove "
            "the image."
        )
    return {image: listed[key] for key, image in files.items()}


def _read_manifest(path: Path) -> dict[tuple[str, str], str]:
    """Read patients by (site, file name); other columns are passed over."""
    if not path.is_file():
        raise ConfigError(
            f"`patient` is 'manifest', but there is no {path}. Write one with the columns "
            f"{', '.join(COLUMNS)}, or set `patient` to a regular expression with one group for "
            "the patient in a file name, or to 'file' if each image is another patient."
        )
    patients: dict[tuple[str, str], str] = {}
    for line, (site, patient, file) in read_rows(path, COLUMNS):
        if not (site and patient and file):
            raise DataError(f"{line}: site, patient or file is empty.")
        if (site, file) in patients:
            raise DataError(f"{line}: {file!r} of site {site!r} is listed twice; remove one row.")
        patients[site, file] = patient
    return patients
