"""Which CT and which mask belong to which patient, in `root/<site>/<patient>/`."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.ct.nifti import SUFFIXES
from datamodules.site_folders import site_names, sub_folders
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
    return {name: _patients(root / name, image, mask) for name in site_names(root, sites)}


def find_images(folder: Path, image: str) -> list[Path]:
    """List every CT of that name in one patient's folder: files, or the folder of a series."""
    series = folder / image
    return _existing(folder, image, SUFFIXES) + ([series] if series.is_dir() else [])


def _existing(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    return [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]


def _patients(folder: Path, image: str, mask: str) -> dict[str, ScanFiles]:
    patients = {path.name: _files(path, image, mask) for path in sub_folders(folder)}
    if not patients:
        raise DataError(
            f"Site {folder.name!r} has no patient: {folder} holds no folder. Expected "
            f"{folder}/<patient>/ with {image}.nii.gz and {mask}.nii.gz; name the folders that are "
            "hospitals in `sites` if this is none."
        )
    return patients


def _files(folder: Path, image: str, mask: str) -> ScanFiles:
    masks = _existing(folder, mask, (*SUFFIXES, SEGMENTATION))
    return ScanFiles(
        folder.name,
        _only(find_images(folder, image), folder, f"CT ({_names(image)} or a folder {image})"),
        _only(masks, folder, f"mask ({_names(mask)} or {mask}.dcm)"),
    )


def _names(stem: str) -> str:
    return f"{stem}.nii.gz, {stem}.nii"


def _only(paths: Sequence[Path], folder: Path, what: str) -> Path:
    """Return the only path, or raise a DataError if a patient's folder has none or several."""
    patient = f"Site {folder.parent.name!r}: patient {folder}"
    if not paths:
        raise DataError(
            f"{patient} has no {what}. Add it, remove the folder, or set `image` and `mask` to "
            "what these are called without suffix."
        )
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise DataError(
            f"{patient} has more than one {what}: {names}. Keep one, or make each scan a patient "
            "of its own."
        )
    return paths[0]
