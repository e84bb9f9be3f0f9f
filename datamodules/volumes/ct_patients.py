"""Which CT and which mask belong to which patient, in `root/<site>/<patient>/`."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.index.index import Index
from datamodules.index.row import Row
from datamodules.readers.segmentation import SEGMENTATION
from datamodules.site_folders import site_names, sub_folders
from datamodules.volumes.fold_file import read_folds
from lightning_fl.errors import ConfigError, DataError

SUFFIXES = (".nii", ".nii.gz")


class CTPatients(Index):
    """List `root/<site>/<patient>/` with a CT and a mask each, patients sorted by name.

    Args:
        root: folder of the hospitals' folders.
        sites: which of them, in this order; None is all, by name.
        image: name of a CT's file without suffix, or of the folder of its series.
        mask: name of a mask's file without suffix.
        fold_file: CSV file with the columns site, patient and fold, or None.
        folds: how many folds there are.
    """

    def __init__(
        self,
        root: Path,
        sites: Sequence[str] | None = None,
        image: str = "ct",
        mask: str = "mask",
        fold_file: Path | None = None,
        folds: int | None = None,
    ) -> None:
        if fold_file is not None and folds is None:
            raise ConfigError(
                f"`fold_file` is {fold_file}, but `folds` is null; set it to the number of folds "
                "in the file and `fold` to the one to test."
            )
        self.root = root
        self.sites = sites
        self.image = image
        self.mask = mask
        self.fold_file = fold_file
        self.folds = folds

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each patient; no file of a scan is opened.

        Raises:
            ConfigError: there is no such folder, hospital or fold file.
            DataError: a hospital has no patient, a patient not exactly one CT and one mask, or the
                fold file is not complete.
        """
        sites = site_names(self.root, self.sites)
        folders = {site: _patients(self.root / site, self.image, self.mask) for site in sites}
        patients = {site: [folder.name for folder in folders[site]] for site in sites}
        fold_of: dict[tuple[str, str], int] = {}
        if self.fold_file is not None and self.folds is not None:
            fold_of = read_folds(self.fold_file, patients, self.folds)
        return tuple(
            self._row(site, folder, fold_of.get((site, folder.name)))
            for site in sites
            for folder in folders[site]
        )

    def _row(self, site: str, folder: Path, fold: int | None) -> Row:
        """Find the files of one patient."""
        images, masks = find_images(folder, self.image), _masks(folder, self.mask)
        image = _only(images, folder, f"CT ({_names(self.image)} or a folder {self.image})")
        mask = _only(masks, folder, f"mask ({_names(self.mask)} or {self.mask}{SEGMENTATION})")
        return Row(site, folder.name, (image,), mask, {}, None, fold, str(folder))


def find_images(folder: Path, image: str) -> list[Path]:
    """List every CT of that name in one patient's folder: files, or the folder of a series."""
    series = folder / image
    return _existing(folder, image, SUFFIXES) + ([series] if series.is_dir() else [])


def _existing(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    return [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]


def _masks(folder: Path, mask: str) -> list[Path]:
    return _existing(folder, mask, (*SUFFIXES, SEGMENTATION))


def _patients(folder: Path, image: str, mask: str) -> list[Path]:
    patients = sub_folders(folder)
    if not patients:
        raise DataError(
            f"Site {folder.name!r} has no patient: {folder} holds no folder. Expected "
            f"{folder}/<patient>/ with {image}.nii.gz and {mask}.nii.gz; name the folders that are "
            "hospitals in `sites` if this is none."
        )
    return patients


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
