"""Which CT and which mask belong to which patient, in `root/<site>/<patient>/`."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.ct.nifti import SUFFIXES
from datamodules.site_folders import site_names
from lightning_fl.data.scans import ScanFiles
from lightning_fl.errors import DataError

SEGMENTATION = ".dcm"
"""Suffix of a mask that is a DICOM segmentation."""


def index_patients(
    root: Path, sites: Sequence[str] | None, image: str, mask: str
) -> dict[str, dict[str, ScanFiles]]:
    """List every hospital's patients, sorted by name, without opening a file.

    Args:
        root: folder of the hospitals' folders.
        sites: which of them, in this order; None is all, by name.
        image: name of a CT's file without suffix, or of the folder of its series.
        mask: name of a mask's file without suffix.

    Returns:
        Files by patient, by hospital.

    Raises:
        ConfigError: there is no such folder or hospital.
        DataError: a hospital has no patient, or a patient not exactly one CT and one mask.
    """
    return {name: _patients(root / name, name, image, mask) for name in site_names(root, sites)}


def find_images(folder: Path, image: str) -> list[Path]:
    """Every CT of that name in one patient's folder: files, or the folder of a series."""
    named = [folder / f"{image}{suffix}" for suffix in SUFFIXES]
    series = folder / image
    return [path for path in named if path.is_file()] + ([series] if series.is_dir() else [])


def sub_folders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def _patients(folder: Path, site: str, image: str, mask: str) -> dict[str, ScanFiles]:
    found = {path.name: _files(path, site, image, mask) for path in sub_folders(folder)}
    if not found:
        raise DataError(
            f"Site {site!r} has no patient: {folder} holds no folder. Expected {folder}/<patient>/ "
            f"with {image}.nii.gz and {mask}.nii.gz; name the folders that are hospitals in "
            "`sites` if this is none."
        )
    return found


def _files(folder: Path, site: str, image: str, mask: str) -> ScanFiles:
    images = find_images(folder, image)
    masks = [folder / f"{mask}{suffix}" for suffix in (*SUFFIXES, SEGMENTATION)]
    return ScanFiles(
        folder.name,
        _only(images, folder, site, f"CT ({image}.nii.gz, {image}.nii or a folder {image})"),
        _only(
            [path for path in masks if path.is_file()],
            folder,
            site,
            f"mask ({mask}.nii.gz, {mask}.nii or {mask}.dcm)",
        ),
    )


def _only(found: Sequence[Path], folder: Path, site: str, what: str) -> Path:
    """The one file that was found.

    Raises:
        DataError: there is none, or several.
    """
    if not found:
        raise DataError(
            f"Site {site!r}: patient {folder} has no {what}. Add it, remove the folder, or set "
            "`image` and `mask` to what these are called without suffix."
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(
            f"Site {site!r}: patient {folder} has more than one {what}: {names}. Keep one, or make "
            "each scan a patient of its own."
        )
    return found[0]
