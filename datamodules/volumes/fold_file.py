"""A CSV file that says in which fold each patient is tested."""

from collections.abc import Collection, Mapping
from pathlib import Path

from datamodules.csv_file import read_rows
from lightning_fl.errors import ConfigError, DataError

COLUMNS = ("site", "patient", "fold")


def read_folds(
    path: Path, patients: Mapping[str, Collection[str]], folds: int
) -> dict[tuple[str, str], int]:
    """Read the fold of every patient, 0 to folds - 1, by (site, patient).

    Other columns, and the rows of other sites, are passed over.

    Raises:
        ConfigError: there is no such file.
        DataError: a column is missing, a fold is out of range, or a patient is not listed exactly
            once or does not exist; names the file and the line.
    """
    if not path.is_file():
        raise ConfigError(f"`fold_file` is {path}, but there is no such file.")
    fold_of: dict[tuple[str, str], int] = {}
    for line, (site, patient, fold) in read_rows(path, COLUMNS):
        if site not in patients:
            continue
        where = f"{line}: patient {patient!r} of site {site!r}"
        if patient not in patients[site]:
            raise DataError(f"{where} has no folder; remove the row or add the patient.")
        if (site, patient) in fold_of:
            raise DataError(f"{where} is listed twice; remove one row.")
        if not (fold.isascii() and fold.isdigit() and int(fold) < folds):
            raise DataError(f"{where} has fold {fold!r}; expected 0 to {folds - 1} (`folds`).")
        fold_of[site, patient] = int(fold)
    for site, names in patients.items():
        _check_complete(path, site, sorted(name for name in names if (site, name) not in fold_of))
    return fold_of


def _check_complete(path: Path, site: str, missing: list[str]) -> None:
    if missing:
        raise DataError(
            f"{path} has no row for {len(missing)} patients of site {site!r}, among them "
            f"{', '.join(missing[:3])}; add their folds or remove their folders."
        )
