"""Indexes of published formats: MONAI, Decathlon, nnU-Net and MedMNIST."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import Datalist, Decathlon, MedMnist, NnUnet
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.index.test_folders import touch


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_a_datalist_of_each_hospital(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "m.png")
    pictures = {
        "training": [{"image": ["a.png", "b.png"], "label": "m.png", "fold": 1, "patient": "P"}],
        "validation": [{"image": "c.png", "label": "m.png"}],
        "test": [{"image": "never_looked_for.png"}],
    }
    labels = {"training": [{"image": "a.png", "label": 1}, {"image": "b.png", "label": [0, 1]}]}
    files = {"A": write(tmp_path / "1.json", pictures), "B": write(tmp_path / "2.json", labels)}
    first, second, third, fourth = Datalist(files).rows()
    assert (first.patient, len(first.images), first.part, first.fold) == ("P", 2, "train", 1)
    assert (second.patient, second.part, second.mask) == ("c", "val", tmp_path / "m.png")
    assert (third.site, third.labels) == ("B", {"label": 1.0})
    assert fourth.labels == {"0": 0.0, "1": 1.0}
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"2\.json, training 2: there is no file .*b\.png"):
        Datalist({"B": files["B"]}).rows()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds a list, but a dict is needed"),
        ({"train": []}, "has none of the lists training"),
        ({"training": [{"image": "a.png"}]}, "training 1 has no label; add"),
        ({"training": [{"label": 1}]}, "training 1 has no image; add"),
        ({"training": [{"image": "../a.png", "label": 1}]}, "training 1: .* lies outside of"),
    ],
)
def test_datalists_that_cannot_be_used(tmp_path: Path, content: Any, message: str) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(DataError, match=message):
        Datalist({"A": write(tmp_path / "1.json", content)}).rows()


def test_images_of_one_name_need_a_rule_for_patients(tmp_path: Path) -> None:
    touch(tmp_path, "P1/ct.nii", "P2/ct.nii", "m.nii")
    entries = [{"image": f"P{n}/ct.nii", "label": "m.nii"} for n in (1, 2)]
    path = write(tmp_path / "1.json", {"training": entries})
    with pytest.raises(DataError, match=r"training 2: the image is called 'ct' as in .*training 1"):
        Datalist({"A": path}).rows()
    rows = Datalist({"A": path}, patient="^(P[0-9])/").rows()
    assert [row.patient for row in rows] == ["P1", "P2"]


def test_text_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{")
    with pytest.raises(DataError, match=r"1\.json is no JSON"):
        Datalist({"A": tmp_path / "1.json"}).rows()


def test_the_decathlon_is_one_hospital_whose_split_is_drawn(tmp_path: Path) -> None:
    root = touch(tmp_path / "Task04", "imagesTr/h_1.nii.gz", "labelsTr/h_1.nii.gz")
    entry = {"image": "./imagesTr/h_1.nii.gz", "label": "./labelsTr/h_1.nii.gz"}
    write(root / "dataset.json", {"training": [entry], "test": ["./imagesTs/h_2.nii.gz"]})
    [row] = Decathlon(root).rows()
    assert (row.site, row.patient, row.part) == ("Task04", "h_1", None)
    assert row.images == (root / "imagesTr/h_1.nii.gz",)


def nnunet(root: Path, channels: int = 2) -> Path:
    for case in ("p1_a", "p1_b", "p2_a"):
        touch(root, f"labelsTr/{case}.png")
        touch(root, *(f"imagesTr/{case}_{n:04d}.png" for n in range(channels)))
    names = {str(n): f"c{n}" for n in range(channels)}
    write(root / "dataset.json", {"channel_names": names, "file_ending": ".png"})
    return root


def test_nnunet_with_its_splits(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "Dataset001_X")
    splits = [{"train": ["p2_a"], "val": ["p1_a", "p1_b"]}, {"train": ["p1_a"], "val": ["p2_a"]}]
    write(root / "splits_final.json", splits)
    rows = NnUnet({"A": root}, patient="^(p[0-9])_").rows()
    assert [(row.patient, row.fold) for row in rows] == [("p1", 0), ("p1", 0), ("p2", 1)]
    assert [path.name for path in rows[0].images] == ["p1_a_0000.png", "p1_a_0001.png"]
    other = write(tmp_path / "other.json", [{"val": ["p1_a"]}, {"val": ["p1_b", "p2_a"]}])
    with pytest.raises(DataError, match="patient 'p1' has fold 1, but 0 in"):
        NnUnet({"A": root}, splits={"A": other}, patient="^(p[0-9])_").rows()


def test_nnunet_with_missing_files(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "X")
    (root / "imagesTr" / "p1_b_0001.png").unlink()
    with pytest.raises(DataError, match=r"p1_b\.png has no image .*p1_b_0001\.png"):
        NnUnet({"A": root}).rows()
    (root / "labelsTr" / "p1_b.png").unlink()
    with pytest.raises(DataError, match=r"p1_b_0000\.png has no mask in"):
        NnUnet({"A": root}).rows()
    with pytest.raises(ConfigError, match=r"`splits` names \['B'\]"):
        NnUnet({"A": root}, splits={"B": root})


def medmnist(path: Path, labels: int = 1, patients: int = 4) -> Path:
    arrays: dict[str, Any] = {}
    for shade, part in enumerate(("train", "val", "test")):
        images = np.full((patients, 6, 6), 50 * shade, np.uint8)
        arrays[f"{part}_images"] = images + np.arange(patients, dtype=np.uint8)[:, None, None]
        truth = np.arange(patients * labels).reshape(patients, labels) % 2
        arrays[f"{part}_labels"] = truth.astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


def test_medmnist_keeps_its_parts_and_labels(tmp_path: Path) -> None:
    rows = MedMnist(medmnist(tmp_path / "x.npz")).rows()
    assert [row.part for row in rows] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert (rows[1].site, rows[1].patient, rows[1].labels) == ("x", "train_1", {"label": 1.0})
    several = MedMnist(medmnist(tmp_path / "y.npz", labels=3)).rows()
    assert several[0].labels == {"0": 0.0, "1": 1.0, "2": 0.0}
    np.savez(tmp_path / "z.npz", images=np.zeros(3))
    with pytest.raises(DataError, match=r"z\.npz is no file of MedMNIST"):
        MedMnist(tmp_path / "z.npz").rows()
