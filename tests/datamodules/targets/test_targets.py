import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import ClassNumbers, Labels, MaskMap, Regions, Threshold
from datamodules.index import Row
from datamodules.targets import MaskTarget
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError, DataError

MASK = np.array([[0, 0], [128, 255]], dtype=np.uint8)
PATH = Path("m.png")


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (MaskMap({0: 0, 128: 1, 255: 2}), [[0, 0], [1, 2]]),
        (MaskMap({0: 0, 255: 1}, ignore=[128]), [[0, 0], [IGNORE, 1]]),
        (Threshold(at=128), [[0, 0], [1, 1]]),
        (Threshold(at=200, ignore=[128]), [[0, 0], [IGNORE, 1]]),
        (ClassNumbers(1, ignore=[128]), [[0, 0], [IGNORE, 1]]),
        (ClassNumbers(200, ignore=[255]), [[0, 0], [128, IGNORE]]),
        (Regions({"disc": [128, 255], "cup": [255]}), [[[0, 0], [1, 1]], [[0, 0], [0, 1]]]),
        (
            Regions({"cup": [255]}, ignore=[128]),
            [[[0, 0], [IGNORE, 1]]],
        ),
        (Regions({"cup": [255]}, background=[0, 128]), [[[0, 0], [0, 1]]]),
    ],
)
def test_numbers_of_a_mask_become_classes(target: MaskTarget, classes: Any) -> None:
    result = target(MASK, PATH)
    assert result.dtype == np.int64
    assert result.tolist() == classes


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (MaskMap({0: 0, 128: 1}), r"m\.png holds the values \[255\], which `values` .* \[0, 128\]"),
        (Regions({"cup": [255]}), r"m\.png holds the values \[128\], which no region names"),
        (ClassNumbers(1), r"m\.png holds the values \[0, 128, 255\].*MaskMap, or use Threshold"),
        (ClassNumbers(129), r"holds the values \[255\], but `classes` is 129"),
    ],
)
def test_numbers_without_meaning_name_file_and_remedy(target: MaskTarget, message: str) -> None:
    with pytest.raises(DataError, match=message):
        target(MASK, PATH)


def test_fractions_are_no_classes() -> None:
    with pytest.raises(DataError, match=r"holds the values \[0\.5\]"):
        ClassNumbers(2)(np.array([[0.5, 1.0]]), PATH)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskMap({0: 0, 1: 255}), r"the classes \[255\], but classes are 0 to 254"),
        (lambda: MaskMap({0: 0, 1: 1}, ignore=[1]), r"both name \[1\]"),
        (lambda: Regions({}), "Expected numbers of a mask"),
        (lambda: ClassNumbers(256), "between 1 and 255, but got 256"),
    ],
)
def test_targets_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def labelled(**labels: float) -> Row:
    return Row("A", "P", (Path("a.png"),), None, labels, None, None, "t.csv, line 2")


def test_one_class_number() -> None:
    label = Labels(classes=3)(labelled(label=2.0))
    assert label.dtype == torch.int64
    assert label.shape == ()
    assert label == 2
    assert Labels(column="grade")(labelled(grade=1.0)) == 1


def test_several_labels_with_missing_and_uncertain_ones() -> None:
    row = labelled(edema=1.0, mass=-1.0, nodule=math.nan)
    result = Labels(["mass", "edema", "nodule"], ignore=[-1])(row)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor([math.nan, 1.0, math.nan]), equal_nan=True)


@pytest.mark.parametrize(
    ("target", "labels", "message"),
    [
        (Labels(), {"label": 2.0}, "line 2: the label 'label' is 2, but class numbers are 0 to 1"),
        (Labels(), {"label": math.nan}, "line 2: the label 'label' is missing"),
        (Labels(), {"label": 0.5}, r"line 2: the label 'label' is 0\.5"),
        (Labels(["mass"]), {"mass": -1.0}, "line 2: the label 'mass' is -1.*or add it to `ignore`"),
    ],
)
def test_labels_without_meaning(target: Labels, labels: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        target(labelled(**labels))


def test_a_label_that_the_data_do_not_have() -> None:
    with pytest.raises(ConfigError, match=r"has no label 'mass'; the data have the labels \['x'\]"):
        Labels(["mass"])(labelled(x=1.0))
