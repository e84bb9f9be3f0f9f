from pathlib import Path

import pytest

from datamodules.volumes.fold_file import read_folds
from lightning_fl.errors import ConfigError, DataError

PATIENTS = {"A": ["p0", "p1"], "B": ["p0"]}
ROWS = ["site,age,patient,fold", "A,50,p0,1", "A,60,p1,0", "B,70, p0 ,1"]


def read(folder: Path, rows: list[str]) -> dict[tuple[str, str], int]:
    path = folder / "folds.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return read_folds(path, PATIENTS, 2)


def test_folds_by_site_and_patient(tmp_path: Path) -> None:
    expected = {("A", "p0"): 1, ("A", "p1"): 0, ("B", "p0"): 1}
    assert read(tmp_path, ROWS) == expected
    assert read(tmp_path, [*ROWS, "C,30,p9,7"]) == expected  # a site that is not in use


def test_missing_patient_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row for 1 patients of site 'A', among them p1; add"):
        read(tmp_path, [ROWS[0], ROWS[1], ROWS[3]])


def test_doubled_patient_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5: patient 'p1' of site 'A' is listed twice"):
        read(tmp_path, [*ROWS, "A,60,p1,1"])


def test_patient_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5: patient 'p7' of site 'B' has no folder"):
        read(tmp_path, [*ROWS, "B,60,p7,1"])


@pytest.mark.parametrize("fold", ["2", "-1", "", "x", "1.0", "²"])
def test_impossible_fold_is_named(tmp_path: Path, fold: str) -> None:
    with pytest.raises(DataError, match=rf"line 2: .*fold '{fold}'; expected 0 to 1"):
        read(tmp_path, [ROWS[0], f"A,50,p0,{fold}"])


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns \['site', 'patient'\], but needs .*'fold'"):
        read(tmp_path, ["site,patient", "A,p0"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`fold_file` is .*gone\.csv"):
        read_folds(tmp_path / "gone.csv", PATIENTS, 2)
