from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules import TensorHospitals
from lightning_fl.data.module import IGNORE
from lightning_fl.data.summary import describe_data, spread
from tests.toy import AlikeHospitals

Patients = Mapping[str, tuple[Tensor, Tensor]]


def lines(patients: Patients, **settings: Any) -> list[str]:
    return [*describe_data(TensorHospitals({"A": patients}, **settings), "A", seed=0)]


def images(count: int = 2) -> Tensor:
    """Images whose values run from 0 to 1."""
    return torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).repeat(count, 1, 1, 1)


def masks(*quarters: int) -> Tensor:
    """Two masks, each quarter of which, a row, is of one class."""
    return torch.tensor(quarters)[None, :, None].repeat(2, 1, 4)


def test_classes_are_told_by_their_share_and_ignored_pixels_apart() -> None:
    patients = {f"P{n}": (images(), masks(0, 0, 1, IGNORE)) for n in range(3)}
    said = lines(patients)
    assert "images: 2 train, 2 val, 2 test" in said
    assert "6 images looked at: 1 x 4 x 4 (channels x size), values 0 to 1" in said
    assert "classes by share of pixels: 0 50 %, 1 25 %; 25 % ignored" in said
    assert "augmentation: none" in said
    assert "WARNING" not in " ".join(said)


def test_regions_are_told_one_by_one() -> None:
    regions = torch.stack([masks(0, 1, 1, 1)[0], masks(0, 0, 0, 1)[0]])
    data = AlikeHospitals({"image": images()[0], "mask": regions})
    said = [*describe_data(data, "A", seed=0)]
    assert "regions by share of pixels: 0 75 %, 1 25 %" in said
    assert "WARNING" not in " ".join(said)


def test_full_masks_and_constant_images_are_warned_of() -> None:
    patients = {f"P{n}": (images() * (n > 0), masks(1, 1, 1, n)) for n in range(3)}
    said = lines(patients)
    assert "WARNING: 2 images have one value everywhere" in said
    assert "WARNING: 4 masks are foreground everywhere" in said


def test_labels_are_counted() -> None:
    patients = {f"P{n}": (images(), torch.tensor([n % 2, 1])) for n in range(3)}
    assert "images by label: 0: 2, 1: 4" in lines(patients)


def test_images_of_one_patient_in_two_parts_are_warned_of() -> None:
    slices = {f"P01_{n}": (images(), masks(0, 0, 1, 1)) for n in range(3)}
    [warning] = [line for line in lines(slices) if line.startswith("WARNING")]
    assert "'P01_" in warning
    assert "of one patient in two parts" in warning
    cases = {f"Case_{n:02d}": (images(), masks(0, 0, 1, 1)) for n in range(3)}
    assert "WARNING" not in " ".join(lines(cases))


def test_large_data_are_looked_at_from_the_first_image_to_the_last() -> None:
    assert [*spread(range(101), 3)] == [0, 50, 100]
    assert [*spread(range(2), 3)] == [0, 1]
