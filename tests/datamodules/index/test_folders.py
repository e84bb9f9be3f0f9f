from pathlib import Path
from typing import Any

import pytest

from datamodules import Folders
from lightning_fl.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def facts(root: Path, **settings: Any) -> list[tuple[Any, ...]]:
    rows = Folders(root, **settings).rows()
    return [
        (row.site, row.patient, row.part, row.mask and row.mask.relative_to(root).as_posix())
        for row in rows
    ]


def test_masks_with_a_suffix_in_folders_of_parts(tmp_path: Path) -> None:
    for part in ("Train", "Test"):
        touch(tmp_path, f"A/{part}/image/1.jpg", f"A/{part}/mask/1_mask.png")
    settings = {"images": "{site}/{part}/image/{name}", "masks": "{site}/{part}/mask/{name}_mask"}
    assert facts(tmp_path, **settings) == [
        ("A", "Test_1", "test", "A/Test/mask/1_mask.png"),
        ("A", "Train_1", "train", "A/Train/mask/1_mask.png"),
    ]


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    names = ("Case00.nii.gz", "Case00_segmentation.nii.gz")
    touch(tmp_path, *(f"{site}/{name}" for site in "AB" for name in names))
    rows = facts(tmp_path, images="{site}/{name}", masks="{site}/{name}_segmentation")
    assert [row[:2] for row in rows] == [("A", "Case00"), ("B", "Case00")]


def test_a_folder_for_each_patient_with_series_and_channels(tmp_path: Path) -> None:
    touch(tmp_path, "A/P1/ct/000.dcm", "A/P1/mask.nii.gz", "A/P2/ct.nii", "A/P2/mask.nii")
    rows = Folders(tmp_path, images="{site}/{patient}/ct", masks="{site}/{patient}/mask").rows()
    assert [(row.patient, row.images[0].name) for row in rows] == [("P1", "ct"), ("P2", "ct.nii")]
    touch(tmp_path, "B/Q/Q_t1.nii.gz", "B/Q/Q_t1ce.nii.gz", "B/Q/Q_seg.nii.gz")
    images = ["{site}/{patient}/{patient}_t1", "{site}/{patient}/{patient}_t1ce"]
    settings: Any = {"images": images, "masks": "{site}/{patient}/{patient}_seg", "sites": ["B"]}
    [row] = Folders(tmp_path, **settings).rows()
    assert [path.name for path in row.images] == ["Q_t1.nii.gz", "Q_t1ce.nii.gz"]
    (tmp_path / "B/Q/Q_t1ce.nii.gz").unlink()
    with pytest.raises(DataError, match=r"Q_t1\.nii\.gz has no channel; add .*B/Q/Q_t1ce"):
        Folders(tmp_path, **settings).rows()


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    touch(tmp_path, "A/benign/1.png", "A/malignant/1.png")
    settings: Any = {"images": "{site}/{label}/{name}", "masks": None}
    rows = Folders(tmp_path, classes=["benign", "malignant"], **settings).rows()
    assert [row.labels for row in rows] == [{"label": 0.0}, {"label": 1.0}]
    assert [row.patient for row in rows] == ["benign_1", "malignant_1"]
    with pytest.raises(DataError, match=r"1\.png: the label is 'malignant', but `classes` are"):
        Folders(tmp_path, classes=["benign"], **settings).rows()


def test_one_hospital_without_a_folder_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png")
    rows = facts(tmp_path, images="images/{name}", masks="masks/{name}")
    assert rows == [(tmp_path.name, "1", None, "masks/1.png")]


def test_sites_further_down_leave_hidden_folders_out(tmp_path: Path) -> None:
    touch(tmp_path, "train/A/1.png", "train/A/1_m.png", "train/.cache/1.png")
    rows = facts(tmp_path, images="{part}/{site}/{name}", masks="{part}/{site}/{name}_m")
    assert rows == [("A", "train_1", "train", "train/A/1_m.png")]


def test_a_manifest_may_name_parts_and_folds(tmp_path: Path) -> None:
    touch(tmp_path, "A/images/1.png", "A/masks/1.png")
    (tmp_path / "manifest.csv").write_text("site,patient,file,split,fold\nA,P,1.png,val,3\n")
    [row] = Folders(tmp_path, patient="manifest").rows()
    assert (row.patient, row.part, row.fold) == ("P", "val", 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "{site}/{nme}"}, "placeholder that is none of site, part"),
        ({"masks": "{site}/{patient}/{name}"}, "placeholders that .* lacks"),
        ({"masks": None}, "Images need `masks`, or a folder {label}"),
        ({"images": "{site}/{label}/{name}", "masks": None}, "List the folders .* in `classes`"),
    ],
)
def test_paths_that_cannot_work(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Folders(tmp_path, **settings)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No image in .* is called 'images/{name}'"):
        Folders(tmp_path, images="images/{name}", masks="masks/{name}").rows()
    with pytest.raises(ConfigError, match="there is no such folder"):
        Folders(tmp_path / "no").rows()


def test_a_part_with_an_unknown_name(tmp_path: Path) -> None:
    touch(tmp_path, "A/holdout/1.png", "A/holdout/1_m.png")
    with pytest.raises(DataError, match=r"1\.png: the split is 'holdout'"):
        facts(tmp_path, images="{site}/{part}/{name}", masks="{site}/{part}/{name}_m")
