import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from datamodules import Percentiles, SiteZScore, Table, Unchanged, Volumes, Window, ZScore
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.data.scans import from_settings
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.readers.scan_files import edit, noise, write_nifti, write_series

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (16, 12, 6)
SCALES = {"A": 1.0, "B": 4000.0}
"""What one scanner's numbers are of the other's."""


def mr(seed: int) -> np.ndarray:
    """Tissue with a margin of exactly 0."""
    values = np.zeros(SHAPE)
    values[2:-2, 2:-2] = np.random.default_rng(seed).uniform(0.1, 1, (12, 8, 6))
    return values.astype(np.float32)


def classes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def write_table(root: Path, channels: Sequence[str] = ("image",), patients: int = 4) -> Path:
    """Two hospitals with the same patients, scanned by unlike scanners."""
    rows = []
    for site, scale in SCALES.items():
        (root / site).mkdir(parents=True)
        for number in range(patients):
            row = {"site": site, "patient": f"{site}{number}"}
            for place, channel in enumerate(channels):
                row[channel] = f"{site}/{number}_{channel}.nii.gz"
                write_nifti(root / row[channel], mr(number) * scale * (place + 1), AFFINE)
            row["mask"] = f"{site}/{number}_mask.nii.gz"
            write_nifti(root / row["mask"], classes(number), AFFINE)
            rows.append(row)
    return write_rows(root / "table.csv", rows)


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def volumes(table: Path, **settings: Any) -> Volumes:
    defaults: dict[str, Any] = {"spacing": (1, 1, 2), "shape": SHAPE, "classes": 3}
    defaults["cache_dir"] = str(table.parent / ".cache")
    return Volumes(Table(table), **(defaults | settings))


def images(data: Volumes, site: str, patient: str) -> Tensor:
    samples: Any = data.dataset(site, [patient], augment=False)
    return torch.stack([samples[index]["image"] for index in range(len(samples))])


@pytest.mark.parametrize("normalise", [None, ZScore(), Percentiles(), SiteZScore()])
def test_scanners_of_unlike_scale_give_like_images(tmp_path: Path, normalise: Any) -> None:
    data = volumes(write_table(tmp_path), modality="MR", normalise=normalise)
    if normalise == SiteZScore():  # of the same patients, whatever the sites' splits
        by_site = {site: data.for_patients([f"{site}0", f"{site}1"]) for site in "AB"}
    else:
        by_site = dict.fromkeys("AB", data)
    ours, theirs = (images(by_site[site], site, f"{site}2") for site in "AB")
    assert ours.shape == (6, 3, 12, 16)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert np.unique(ours.numpy()).size > 500  # of 576 voxels of tissue


def test_unchanged_keeps_every_grey_level(tmp_path: Path) -> None:
    data = volumes(write_table(tmp_path), normalise=Unchanged(), neighbours=1)
    for site, scale in SCALES.items():
        expected = (mr(1) * scale)[::-1, ::-1].transpose(2, 1, 0)
        np.testing.assert_array_equal(images(data, site, f"{site}1")[:, 0], expected)


def test_masks_are_class_numbers(tmp_path: Path) -> None:
    samples: Any = volumes(write_table(tmp_path)).dataset("A", ["A1"], augment=False)
    expected = classes(1)[::-1, ::-1, 3].T
    np.testing.assert_array_equal(samples[3]["mask"], expected)


def test_several_files_and_one_of_four_axes_give_the_same_channels(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["image_t1", "image_t2"])
    files = volumes(table, modality="MR")
    rows = [
        {"site": "A", "patient": f"A{n}", "image": f"A/{n}_4d.nii.gz", "mask": f"A/{n}_mask.nii.gz"}
        for n in range(4)
    ]
    for number, row in enumerate(rows):
        both = np.stack([mr(number), mr(number) * 2], axis=-1)
        write_nifti(tmp_path / row["image"], both, AFFINE)
    one = volumes(write_rows(tmp_path / "four.csv", rows), modality="MR")
    ours = images(files, "A", "A1")
    assert ours.shape == (6, 6, 12, 16)
    assert torch.equal(ours, images(one, "A", "A1"))
    assert files.pictures(ours).shape == (6, 1, 12, 16)
    [scan] = files.scans("A", ["A1"])
    assert len(scan.image) == 2  # type: ignore[arg-type]
    read = files.preprocessing("A").read(scan.image).images()
    assert torch.equal(torch.stack([read[n] for n in range(6)]), ours)


def test_prediction_sees_what_training_saw(tmp_path: Path) -> None:
    data = volumes(write_table(tmp_path), modality="MR", normalise=SiteZScore()).for_site("B", 1)
    stored = from_settings(data.preprocessing("B").to_settings())
    volume: Any = stored.read(tmp_path / "B" / "1_image.nii.gz")
    seen = volume.images()
    assert torch.equal(torch.stack([seen[n] for n in range(6)]), images(data, "B", "B1"))
    picture = volume.picture(2)
    assert picture.shape == (1, 12, 16)
    assert (float(picture.min()), float(picture.max())) == (0, 1)


def test_only_training_patients_decide_a_sites_numbers(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    data = volumes(table, modality="MR", normalise=SiteZScore()).for_site("A", 0)
    before = data.preprocessing("A")
    [tested] = data.split("A").test
    write_nifti(tmp_path / "A" / f"{tested[1:]}_image.nii.gz", mr(9) * 100, AFFINE)
    after = volumes(table, modality="MR", normalise=SiteZScore()).for_site("A", 0)
    assert after.preprocessing("A") == before
    [trained, *_] = data.split("A").train
    write_nifti(tmp_path / "A" / f"{trained[1:]}_image.nii.gz", mr(9) * 100, AFFINE)
    moved = volumes(table, modality="MR", normalise=SiteZScore()).for_site("A", 0)
    assert moved.preprocessing("A") != before


def test_sites_share_no_numbers(tmp_path: Path) -> None:
    data = volumes(write_table(tmp_path), modality="MR", normalise=SiteZScore())
    ours, theirs = (data.preprocessing(site).normalise for site in "AB")
    assert isinstance(ours, SiteZScore)
    assert isinstance(theirs, SiteZScore)
    assert theirs.means[0] > 1000 * ours.means[0]


@pytest.mark.parametrize(
    ("modality", "expected"), [("CT", Window()), ("MR", ZScore()), (None, ZScore())]
)
def test_modality_decides_the_default(tmp_path: Path, modality: Any, expected: Any) -> None:
    data = volumes(write_table(tmp_path), modality=modality)
    assert data.preprocessing("A").normalise == expected


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=1)
    for settings, message in (
        ({"modality": "MR", "normalise": Window()}, "`normalise` is a Window .* `modality` is MR"),
        ({"modality": "XA"}, "`modality` to be CT, MR or null, but got 'XA'"),
        ({"train_slices": "some"}, "'all' or 'lesion'"),
    ):
        with pytest.raises(ConfigError, match=message):
            volumes(table, **settings)


def test_mr_given_as_ct_is_refused_with_its_numbers(tmp_path: Path) -> None:
    data = volumes(write_table(tmp_path), modality="CT").for_site("B", 0)
    with pytest.raises(DataError, match=r"B/0_image\.nii\.gz: All values lie between 0 and 3\d{3}"):
        data.check()


def test_ct_given_as_mr_is_refused_with_its_numbers(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    write_nifti(tmp_path / "A" / "0_image.nii.gz", noise(SHAPE), AFFINE)
    data = volumes(table, modality="MR").for_site("A", 0)
    with pytest.raises(DataError, match=r"0_image\.nii\.gz has values from -1000 to 1000, as a CT"):
        data.check()


@pytest.mark.parametrize(("modality", "other"), [("CT", "MR"), ("MR", "CT")])
def test_series_of_another_modality_is_refused(tmp_path: Path, modality: Any, other: str) -> None:
    for file in write_series(tmp_path / "series", noise()):
        edit(file, Modality=other)
    prepared = volumes(write_table(tmp_path), modality=modality).preprocessing("A")
    with pytest.raises(DataError, match=f"series has the modality '{other}', but expected"):
        prepared.read(tmp_path / "series")
    either = replace(prepared, modality=None, normalise=ZScore())
    assert either.read(tmp_path / "series").scan.modality == other


def test_scans_that_differ_in_channels_are_named(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    write_nifti(tmp_path / "A" / "2_image.nii.gz", np.stack([mr(2), mr(2)], axis=-1), AFFINE)
    with pytest.raises(DataError, match=r"line 4: .*2_image\.nii\.gz has 2 channels, but .* has 1"):
        volumes(table).for_site("A", 0).check()


def test_scan_without_mask_is_named(tmp_path: Path) -> None:
    write_table(tmp_path)
    lines = ["site,patient,image,mask,label", "A,A0,A/0_image.nii.gz,,1"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"table\.csv, line 2: patient 'A0' .* has no mask"):
        volumes(tmp_path / "table.csv").dataset("A", ["A0"], augment=False)


def test_built_from_yaml_values(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    parser = ArgumentParser()
    parser.add_subclass_arguments(FederatedDataModule, "data")
    init = {
        "index": {"class_path": "datamodules.Table", "init_args": {"path": str(table)}},
        "modality": "MR",
        "normalise": {"class_path": "datamodules.Percentiles", "init_args": {"high": 98}},
        "sites": ["B"],
    }
    config = parser.parse_object({"data": {"class_path": "datamodules.Volumes", "init_args": init}})
    data = parser.instantiate(config).data
    assert data.site_names() == ("B",)
    assert data.preprocessing("B").normalise == Percentiles(0.5, 98)
