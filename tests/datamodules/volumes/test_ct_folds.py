from pathlib import Path

import pytest

from datamodules.volumes.ct_patients import CTPatients
from lightning_fl.errors import ConfigError, DataError

PATIENTS = {"A": ["p0", "p1"], "B": ["p0"]}
ROWS = ["site,age,patient,fold", "A,50,p0,1", "A,60,p1,0", "B,70, p0 ,1"]


def read(folder: Path, rows: list[str]) -> dict[tuple[str, str], int | None]:
    path = folder / "folds.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    for site, patients in PATIENTS.items():
        for patient in patients:
            (folder / site / patient).mkdir(parents=True, exist_ok=True)
            for name in ("ct.nii", "mask.nii"):
                (folder / site / patient / name).touch()
    rows_of = CTPatients(folder, fold_file=path, folds=2).rows()
    return {(row.site, row.patient): row.fold for row in rows_of}


def test_folds_by_site_and_patient(tmp_path: Path) -> None:
    expected = {("A", "p0"): 1, ("A", "p1"): 0, ("B", "p0"): 1}
    assert read(tmp_path, ROWS) == expected
    assert read(tmp_path, [*ROWS, "C,30,p9,7"]) == expected  # a site that is not in use


def test_missing_patient_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row for 'p1' of site 'A'; add"):
        read(tmp_path, [ROWS[0], ROWS[1], ROWS[3]])


def test_doubled_patient_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5: 'p1' of site 'A' is listed twice"):
        read(tmp_path, [*ROWS, "A,60,p1,1"])


def test_patient_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5 names 'p7' of site 'B', but it is not there"):
        read(tmp_path, [*ROWS, "B,60,p7,1"])


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ("2", "patient 'p0' has the fold 2; expected 0 to 1"),
        ("", "patient 'p0' has no fold; expected 0 to 1"),
        *((text, f"the fold is '{text}'; expected a whole") for text in ("-1", "x", "1.0", "²")),
    ],
)
def test_impossible_fold_is_named(tmp_path: Path, fold: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"line 2: {message}"):
        read(tmp_path, [ROWS[0], f"A,50,p0,{fold}", *ROWS[2:]])


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns \['site', 'fold'\], but needs .*'patient'"):
        read(tmp_path, ["site,fold", "A,1"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    read(tmp_path, ROWS)
    with pytest.raises(ConfigError, match=r"There is no table .*gone\.csv"):
        CTPatients(tmp_path, fold_file=tmp_path / "gone.csv", folds=2).rows()
