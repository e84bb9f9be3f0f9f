import shutil
from pathlib import Path

import pytest

from datamodules.ct.index import index_patients
from lightning_fl.data.scans import ScanFiles
from lightning_fl.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Hospital A with one patient for each format, hospital B with one."""
    for name in ("A/gz", "A/nii", "A/dicom/ct", "B/one", ".hidden/x", "_notes", "A/.git", "A/_old"):
        (tmp_path / name).mkdir(parents=True)
    files = (
        *("A/gz/ct.nii.gz", "A/gz/mask.nii.gz", "A/nii/ct.nii", "A/nii/mask.nii"),
        *(
            "A/dicom/mask.dcm",
            "A/dicom/notes.txt",
            "B/one/ct.nii.gz",
            "B/one/mask.nii",
            "A/list.csv",
        ),
    )
    for file in files:
        (tmp_path / file).touch()
    return tmp_path


def test_every_format_is_found_and_hidden_folders_are_not(root: Path) -> None:
    found = index_patients(root, None, "ct", "mask")
    a = root / "A"
    assert found["A"] == {
        "dicom": ScanFiles("dicom", a / "dicom/ct", a / "dicom/mask.dcm"),
        "gz": ScanFiles("gz", a / "gz/ct.nii.gz", a / "gz/mask.nii.gz"),
        "nii": ScanFiles("nii", a / "nii/ct.nii", a / "nii/mask.nii"),
    }
    assert list(found) == ["A", "B"]
    assert list(found["A"]) == ["dicom", "gz", "nii"]


def test_sites_picks_and_orders(root: Path) -> None:
    assert list(index_patients(root, ["B", "A"], "ct", "mask")) == ["B", "A"]
    assert list(index_patients(root, ["B"], "ct", "mask")) == ["B"]


def test_files_may_have_other_names(root: Path) -> None:
    (root / "B/one/ct.nii.gz").rename(root / "B/one/lung.nii.gz")
    (root / "B/one/mask.nii").rename(root / "B/one/lesion.nii")
    assert index_patients(root, ["B"], "lung", "lesion")["B"]["one"].image.name == "lung.nii.gz"


def test_missing_hospital_lists_those_there_are(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['A', 'C'\].*there are \['A', 'B'\]"):
        index_patients(root, ["A", "C"], "ct", "mask")


def test_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        index_patients(tmp_path / "gone", None, "ct", "mask")


def test_patient_without_ct_is_named(root: Path) -> None:
    (root / "A/nii/ct.nii").unlink()
    with pytest.raises(
        DataError, match=r"Site 'A': patient .*A/nii has no CT \(ct\.nii\.gz, .*Add"
    ):
        index_patients(root, None, "ct", "mask")


def test_patient_without_mask_is_named(root: Path) -> None:
    (root / "A/gz/mask.nii.gz").unlink()
    with pytest.raises(DataError, match=r"Site 'A': patient .*A/gz has no mask .*Add it"):
        index_patients(root, None, "ct", "mask")


def test_two_cts_of_a_patient_are_named(root: Path) -> None:
    (root / "A/nii/ct").mkdir()
    with pytest.raises(
        DataError, match=r"A/nii has more than one CT .*: ct\.nii and ct\. Keep one"
    ):
        index_patients(root, None, "ct", "mask")


def test_two_masks_of_a_patient_are_named(root: Path) -> None:
    (root / "A/dicom/mask.nii").touch()
    with pytest.raises(DataError, match=r"more than one mask .*: mask\.nii and mask\.dcm"):
        index_patients(root, None, "ct", "mask")


def test_hospital_without_patients_is_named(root: Path) -> None:
    shutil.rmtree(root / "B/one")
    with pytest.raises(DataError, match=r"Site 'B' has no patient: .*/B holds no folder"):
        index_patients(root, None, "ct", "mask")
