"""From image files to masks and classes: runs of 2-D data and predictions by their models."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import train
from datamodules import ImageFolder
from lightning_fl.predict import __main__ as predict
from lightning_fl.predict.finished_run import load
from lightning_fl.results.summary import read_results
from tests.folders import ROOT

Pixels = npt.NDArray[np.uint8]
SIZES = {"A": (40, 32), "B": (24, 48)}
MEAN = {"A": 60, "B": 120}
"""Brightness of the hospitals' images."""
SEED = 3
"""Of the runs: it decides whose images a hospital's normalisation is measured on."""


class MappedFolder(ImageFolder):
    """Images with what a test makes of their masks as the truth."""

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        samples: Any = super().dataset(site, patients, augment=augment)
        return [self.mapped(samples[n]) for n in range(len(samples))]  # type: ignore[return-value]

    def mapped(self, sample: Any) -> Any:
        raise NotImplementedError


class Labels(MappedFolder):
    """Two labels: something that all images have, and one that is missing in some."""

    def mapped(self, sample: Any) -> Any:
        bright = float(sample["image"].mean() > 0)
        return {"image": sample["image"], "label": torch.tensor([bright, torch.nan])}


class Regions(MappedFolder):
    """The disc, and its left half, which is ignored below the middle."""

    def mapped(self, sample: Any) -> Any:
        left = sample["mask"].clone()
        left[:, 8:], left[8:] = 0, 255
        return {"image": sample["image"], "mask": torch.stack([sample["mask"], left])}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs in images of two hospitals, and their masks."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for site, (height, width) in SIZES.items():
        y, x = np.mgrid[:height, :width]
        for kind in ("images", "masks"):
            (folder / site / kind).mkdir(parents=True)
        for number in range(5):
            disc = (y - height / 2 - number) ** 2 + (x - width / 2) ** 2 < 60
            image = MEAN[site] + 100 * disc + rng.integers(0, 30, disc.shape)
            for kind, shown in (("images", image), ("masks", 255 * disc)):
                Image.fromarray(shown.astype(np.uint8)).save(
                    folder / site / kind / f"p{number}.png"
                )
    return folder


def trained(root: Path, folder: Path, task: dict[str, Any], data: str, net: dict[str, Any]) -> Path:
    """Train for a round of ten steps, as a user does, and return the run's folder."""
    settings = yaml.safe_load((ROOT / "configs" / "lgg_mri.yaml").read_text())
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}}
    fine_tune = {"steps": [5], "lr": 0.01}
    settings |= {
        "rounds": 1,
        "seed": SEED,
        "net": net,
        "task": {**task, "init_args": task["init_args"] | {"optimizer": adam}},
        "data": {
            "class_path": data,
            "init_args": {
                **{"root": str(root), "patient": "file", "size": 16, "normalise": "site"},
                **{"batch_size": 2, "val": 1, "test": 1},
            },
        },
        "algorithm": {
            "class_path": "lightning_fl.algorithms.FedAvg",
            "init_args": {"batch_norm": "local"},
        },
        "aggregator": {"class_path": "lightning_fl.aggregation.Plain"},
        "trainer": {"local_steps": 10, "accelerator": "cpu"},
        "personalisation": {
            "candidates": [
                {"class_path": "lightning_fl.personalisation.FineTune", "init_args": fine_tune}
            ]
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["--config", str(folder / "config.yaml"), "--output", str(folder / "run")]
    metric = "dice" if "Segmentation" in task["class_path"] else "loss"
    lower = "true" if metric == "loss" else "false"
    chosen = ["--evaluation.metric", metric, "--evaluation.lower_is_better", lower]
    assert train.main([*arguments, *chosen]) == 0
    return folder / "run"


def unet(classes: int) -> dict[str, Any]:
    return {
        "class_path": "monai.networks.nets.UNet",
        "init_args": {
            **{"spatial_dims": 2, "in_channels": 1, "out_channels": classes},
            **{"channels": [4, 8], "strides": [2], "norm": "BATCH"},
        },
    }


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = {"class_path": "models.Segmentation", "init_args": {"largest_component": True}}
    folder = tmp_path_factory.mktemp("masks")
    return trained(root, folder, task, "datamodules.ImageFolder", unet(1))


def predicted(run: Path, source: Path, output: Path, *arguments: str) -> int:
    named = ["--run", str(run), "--input", str(source), "--output", str(output), *arguments]
    return predict.main(named)


def pixels(path: Path) -> Pixels:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("kind", ["global", "personal"])
@pytest.mark.parametrize("site", ["A", "B"])
def test_a_folder_of_images_becomes_a_folder_of_masks_on_their_own_pixels(
    site: str, kind: str, run: Path, root: Path, tmp_path: Path
) -> None:
    output, named = tmp_path / "out", ("--site", site, "--model", kind)
    assert predicted(run, root / site / "images", output, *named) == 0
    assert sorted(path.name for path in output.iterdir()) == [f"p{n}.mask.png" for n in range(5)]
    data = ImageFolder(root, patient="file", size=16, normalise="site", val=1, test=1)
    bound, model = data.for_site(site, SEED), load(run).model(site, kind)
    for number in range(5):
        sample: Any = bound.dataset(site, [f"p{number}"], augment=False)[0]  # as in training
        with torch.no_grad():
            logits = model(sample["image"][None])
        resized = nn.functional.interpolate(logits, SIZES[site], mode="bilinear")
        expected = model.scored(resized)[0].numpy()  # type: ignore[operator]
        assert np.array_equal(pixels(output / f"p{number}.mask.png"), expected)
    found = [pixels(path) for path in sorted(output.iterdir())]
    truth = [pixels(root / site / "masks" / f"p{n}.png") > 0 for n in range(5)]
    assert sum(np.sum(f[t]) for f, t in zip(found, truth, strict=True)) > 0


def test_a_case_is_scored_by_the_mask_that_is_predicted_for_its_file(
    run: Path, root: Path, tmp_path: Path
) -> None:
    with (run / "cases.csv").open(newline="") as file:
        wanted = {"site": "B", "model": "global", "split": "test", "metric": "iou", "label": ""}
        [row] = [r for r in csv.DictReader(file) if wanted.items() <= r.items()]
    image, output = root / "B" / "images" / f"{row['case']}.png", tmp_path / "mask.png"
    assert predicted(run, image, output, "--site", "B", "--model", "global") == 0
    found, truth = pixels(output) > 0, pixels(root / "B" / "masks" / image.name) > 0
    assert float(row["value"]) == pytest.approx(np.sum(found & truth) / np.sum(found | truth))
    scores = read_results(run / "results.json")["sites"]["B"]["global"]["test"]
    assert scores["iou"] == pytest.approx(float(row["value"]))


def test_masks_are_written_beside_images_and_not_taken_for_some(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(root / "A" / "images" / "p0.png").convert("RGB").save(tmp_path / "photo.JPG")
    for _ in range(2):
        assert predicted(run, tmp_path, tmp_path, "--site", "A") == 0
        assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.JPG", "photo.mask.png"]
    assert pixels(tmp_path / "photo.mask.png").shape == SIZES["A"]
    assert predicted(run, tmp_path, tmp_path / "photo.mask.png", "--site", "A") == 0


@pytest.mark.parametrize(
    ("output", "site", "words"),
    [
        ("mask.txt", "A", ["mask.txt is no folder", "unknown suffix", ".png"]),
        ("mask.nii.gz", "A", ["unknown suffix", ".png"]),
        ("one.png", "A", ["There are 5 scans, but --output is one file"]),
        ("out", "Z", ["site 'Z'", "['A', 'B']"]),
    ],
)
def test_predictions_that_cannot_be_are_refused_before_anything_is_written(
    output: str,
    site: str,
    words: list[str],
    run: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind in ("personal", "global"):
        named = ("--site", site, "--model", kind)
        assert predicted(run, root / "A" / "images", tmp_path / output, *named) == 2
        error = capsys.readouterr().err
        assert all(word in error for word in words)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_images_and_a_broken_file_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert predicted(run, tmp_path, tmp_path / "out", "--site", "A") == 2
    assert "is no image file, nor a folder that holds one; expected .png" in capsys.readouterr().err
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert predicted(run, tmp_path, tmp_path / "out", "--site", "A") == 2
    assert "broken.png cannot be read" in capsys.readouterr().err


def test_overlapping_regions_are_trained_shown_and_predicted_as_a_file_each(
    root: Path, tmp_path: Path
) -> None:
    task = {"class_path": "models.Segmentation", "init_args": {"classes": 2, "regions": True}}
    run = trained(root, tmp_path, task, "tests.test_image_run.Regions", unet(2))
    with (run / "cases.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"", "1", "2"}
    assert (run / "report.html").read_text().count("<path") >= 2
    image = root / "A" / "images" / "p1.png"
    assert predicted(run, image, tmp_path / "out.png", "--site", "A") == 0
    masks = [pixels(tmp_path / f"out.{number}.png") for number in (1, 2)]
    assert all(mask.shape == SIZES["A"] and mask.max() <= 1 for mask in masks)
    assert not np.array_equal(masks[0], masks[1])


def test_several_labels_become_a_row_a_file(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"class_path": "models.Classification", "init_args": {"classes": 2, "multilabel": True}}
    net = {
        "class_path": "monai.networks.nets.DenseNet",
        "init_args": {
            **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_features": 4},
            **{"growth_rate": 4, "block_config": [1, 1]},
        },
    }
    run = trained(root, tmp_path, task, "tests.test_image_run.Labels", net)
    output = tmp_path / "labels.csv"
    assert predicted(run, root / "B" / "images", output, "--site", "B") == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["scan", "probability_0", "probability_1"]
    assert [row["scan"] for row in rows] == [f"p{n}" for n in range(5)]
    picture = load(run).preprocessing("B").read(root / "B" / "images" / "p0.png")
    with torch.no_grad():
        expected = load(run).model("B")(picture.images()[0][None]).sigmoid()[0]
    assert float(rows[0]["probability_1"]) == pytest.approx(float(expected[1]), abs=2e-6)
    assert predicted(run, root / "B" / "images", tmp_path / "labels.png", "--site", "B") == 2
    assert "name a CSV file for classes" in capsys.readouterr().err
