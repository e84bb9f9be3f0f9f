import csv
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import inversion
from benchmarks.inversion import (
    AttackCase,
    LabelledImage,
    brain_crops,
    lenet_trial,
    mask_trial,
    smooth_task,
    unet_task,
)
from tests.folders import LGG
from tests.lightning_fl.audit.victims import pictures


def example(size: int = 16) -> LabelledImage:
    image = pictures(1, size)
    return LabelledImage(image, (image[:, 0] > 0.6).long())


def test_a_row_has_the_means_of_its_trials() -> None:
    def trial(one: LabelledImage, seed: int) -> inversion.Scored:
        return inversion.Scored(20.0 + len(seeds), 10.0, 0.5, float(len(seeds) > 0), math.nan, 1.5)

    seeds: list[int] = []
    case = AttackCase(
        "discs", 16, "LeNet", "iDLG", [example()] * 2, lambda one, s: _kept(seeds, s, trial)
    )
    row = case.row(0)
    assert row["PSNR in dB"] == "20.5 ± 0.7"
    assert (row["trials"], row["label right in %"], row["mask Dice"]) == (2, "50", "")
    assert len(set(seeds)) == 2


def _kept(seeds: list[int], seed: int, trial: inversion.Trial) -> inversion.Scored:
    scores = trial(example(), seed)
    seeds.append(seed)
    return scores


def test_an_image_comes_back_from_the_small_net_with_its_label() -> None:
    scores = lenet_trial(example(), 0, iterations=150)
    assert scores.psnr >= 20 > scores.guess
    assert scores.label_right == 1
    assert math.isnan(scores.dice)


def test_an_image_comes_back_from_the_small_segmentation_net_where_the_mask_is_known() -> None:
    scores = mask_trial(example(), 0, smooth_task, hidden=False, iterations=200)
    assert scores.psnr >= 20 > scores.guess
    assert math.isnan(scores.dice)
    assert math.isfinite(mask_trial(example(), 0, smooth_task, hidden=True, iterations=1).dice)


@pytest.mark.parametrize("lbfgs", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_net_with_batch_norm_is_attacked_in_both_modes(lbfgs: bool, training: bool) -> None:
    attack = partial(mask_trial, make_task=unet_task, iterations=1, training=training, lbfgs=lbfgs)
    for hidden in (False, True):
        scores = attack(example(64), 0, hidden=hidden)  # BatchNorm needs two pixels at the bottom
        assert math.isfinite(scores.psnr)
        assert math.isnan(scores.label_right)
        assert math.isnan(scores.dice) != hidden


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def test_the_whole_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "WIDTHS", {16: 4})
    monkeypatch.setattr(inversion, "phantoms", lambda size, count: [example()] * count)
    monkeypatch.setattr(inversion, "quickstart_net", small_net)  # the test above attacks the real
    few = ["--trials", "1", "--iterations", "2", "--unet_trials", "1", "--unet_iterations", "2"]
    file = tmp_path / "inversion.csv"
    monkeypatch.setattr("sys.argv", ["inversion.py", *few, "--csv", str(file)])
    inversion.main()
    rows = list(csv.DictReader(file.open()))
    assert [row["net"].split(",")[0] for row in rows] == (["LeNet"] + ["small"] * 2 + ["U-Net"] * 8)


@pytest.mark.skipif(not LGG.is_dir(), reason="needs the brain MRI of configs/lgg_mri.yaml")
@pytest.mark.parametrize(
    ("size", "count", "iterations"),
    [(32, 2, 140), pytest.param(64, 1, 280, marks=pytest.mark.slow)],
)
def test_brain_crops_come_back(size: int, count: int, iterations: int) -> None:
    crops = brain_crops(LGG, size, count)
    assert [int(crop.label) for crop in crops] == [1, 0][:count]
    trials = [lenet_trial(crop, 2 + n, iterations=iterations) for n, crop in enumerate(crops)]
    assert all(scores.label_right == 1 for scores in trials)
    assert np.mean([scores.psnr for scores in trials]) >= 20
    assert all(scores.guess < 15 for scores in trials)


@pytest.mark.skipif(not LGG.is_dir(), reason="needs the brain MRI of configs/lgg_mri.yaml")
def test_a_crop_lies_around_the_tumour_inside_the_image() -> None:
    for crop in brain_crops(LGG, 64, 20):
        assert crop.image.shape == (1, 1, 64, 64)
        assert crop.mask.shape == (1, 64, 64)
        assert crop.image.min() >= 0
        assert torch.equal(crop.label, crop.mask.any().long().reshape(1))
