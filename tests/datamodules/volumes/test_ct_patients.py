import shutil
from pathlib import Path
from typing import Any

import pytest

from datamodules.volumes.ct_patients import CTPatients
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


def found(root: Path, *settings: Any) -> dict[tuple[str, str], tuple[Path, Path | None]]:
    rows = CTPatients(root, *settings).rows()
    assert all(len(row.images) == 1 for row in rows)
    return {(row.site, row.patient): (row.images[0], row.mask) for row in rows}


def test_every_format_is_found_and_hidden_folders_are_not(root: Path) -> None:
    a, b = root / "A", root / "B"
    files = found(root)
    assert files == {
        ("A", "dicom"): (a / "dicom/ct", a / "dicom/mask.dcm"),
        ("A", "gz"): (a / "gz/ct.nii.gz", a / "gz/mask.nii.gz"),
        ("A", "nii"): (a / "nii/ct.nii", a / "nii/mask.nii"),
        ("B", "one"): (b / "one/ct.nii.gz", b / "one/mask.nii"),
    }
    assert list(files) == sorted(files)


def test_sites_picks(root: Path) -> None:
    assert [site for site, _ in found(root, ["B", "A"])] == ["A", "A", "A", "B"]
    assert [site for site, _ in found(root, ["B"])] == ["B"]


def test_files_may_have_other_names(root: Path) -> None:
    (root / "B/one/ct.nii.gz").rename(root / "B/one/lung.nii.gz")
    (root / "B/one/mask.nii").rename(root / "B/one/lesion.nii")
    [(image, _)] = found(root, ["B"], "lung", "lesion").values()
    assert image.name == "lung.nii.gz"


def test_missing_hospital_lists_those_there_are(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['A', 'C'\].*there are \['A', 'B'\]"):
        CTPatients(root, ["A", "C"]).rows()


def test_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        CTPatients(tmp_path / "gone").rows()


def test_patient_without_ct_is_named(root: Path) -> None:
    (root / "A/nii/ct.nii").unlink()
    with pytest.raises(DataError, match=r"Mask .*A/nii/mask\.nii has no image; add it"):
        CTPatients(root).rows()
    (root / "A/nii/mask.nii").unlink()
    with pytest.raises(
        DataError, match=r"Site 'A': patient .*A/nii has no CT, .*nii/ct with .*Add"
    ):
        CTPatients(root).rows()


def test_patient_without_mask_is_named(root: Path) -> None:
    (root / "A/gz/mask.nii.gz").unlink()
    with pytest.raises(DataError, match=r"Image .*A/gz/ct\.nii\.gz has no mask; add .*A/gz/mask"):
        CTPatients(root).rows()


def test_two_cts_of_a_patient_are_named(root: Path) -> None:
    (root / "A/nii/ct").mkdir()
    with pytest.raises(
        DataError, match=r"A/nii/ct and .*A/nii/ct\.nii differ only in their suffix"
    ):
        CTPatients(root).rows()


def test_two_masks_of_a_patient_are_named(root: Path) -> None:
    (root / "A/dicom/mask.nii").touch()
    with pytest.raises(DataError, match=r"mask\.dcm and .*mask\.nii differ only in their suffix"):
        CTPatients(root).rows()


def test_hospital_without_patients_is_named(root: Path) -> None:
    shutil.rmtree(root / "B/one")
    with pytest.raises(DataError, match=r"Site 'B': .*/B/{patient} holds no image; .* in `sites`"):
        CTPatients(root).rows()
