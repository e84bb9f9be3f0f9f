"""Which CT and which mask belong to which patient, in `root/<site>/<patient>/`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.index.folders import Folders
from datamodules.index.manifest import check_complete, read_manifest
from datamodules.index.row import Row
from datamodules.site_folders import sub_folders
from lightning_fl.errors import ConfigError, DataError


class CTPatients(Folders):
    """List `root/<site>/<patient>/` with a CT and a mask each, patients sorted by name.

    Args:
        root: folder of the hospitals' folders.
        sites: which of them; None is all.
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
        folder = "{site}/{patient}/"
        super().__init__(root, images=folder + image, masks=folder + mask, sites=sites)
        self.fold_file = fold_file
        self.folds = folds

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each patient; no file of a scan is opened.

        Raises:
            ConfigError: there is no such folder, hospital or fold file.
            DataError: a hospital has no patient, a patient not exactly one CT and one mask, or the
                fold file is not complete.
        """
        rows = super().rows()
        patients: dict[str, list[str]] = {}
        for row in rows:
            patients.setdefault(row.site, []).append(row.patient)
        for site, names in patients.items():
            for folder in sub_folders(self.root / site):
                if folder.name not in names:
                    raise DataError(
                        f"Site {site!r}: patient {folder} has no CT, which is called "
                        f"{self.images[0].fill({'site': site, 'patient': folder.name})} with a "
                        "suffix. Add it, or remove the folder."
                    )
        if self.fold_file is None or self.folds is None:
            return rows
        listed = read_manifest(self.fold_file, "patient")
        listed = {key: entry for key, entry in listed.items() if key[0] in patients}
        check_complete(self.fold_file, listed, {(row.site, row.patient) for row in rows})
        for entry in listed.values():
            if entry.fold not in range(self.folds):
                fold = "no fold" if entry.fold is None else f"the fold {entry.fold}"
                raise DataError(
                    f"{entry.place}: patient {entry.patient!r} has {fold}; expected 0 to "
                    f"{self.folds - 1} (`folds`)."
                )
        return tuple(replace(row, fold=listed[row.site, row.patient].fold) for row in rows)
