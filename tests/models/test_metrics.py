import copy
import math

import pytest
import torch
from torch import Tensor

from lightning_fl.data.module import IGNORE
from models.metrics import segmentation_scores

Scores = dict[str, float]


def scores(
    predicted: Tensor, mask: Tensor, case: Tensor | None = None, *, classes: int = 2, batch: int = 9
) -> Scores:
    """The scores of images that come in batches."""
    collection = segmentation_scores(classes, "")
    for start in range(0, len(mask), batch):
        part = slice(start, start + batch)
        of_part = None if case is None else case[part]
        collection.update(predicted[part].to(torch.uint8), mask[part], of_part)
    return {name: value.item() for name, value in collection.compute().items()}


def rows(*texts: str) -> Tensor:
    """Images of one row, e.g. "0110"."""
    return torch.tensor([[[int(c) for c in text]] for text in texts])


def test_scores_are_means_over_images_without_cases_and_dice_pooled_is_not() -> None:
    found = scores(rows("1111", "0001"), rows("1111", "0110"))
    assert found["dice"] == pytest.approx((1 + 0) / 2)
    assert found["dice_pooled"] == pytest.approx(2 * 4 / (5 + 6))


def test_images_of_one_patient_are_one_case() -> None:
    predicted, mask = rows("1111", "0001", "1100"), rows("1111", "0110", "1000")
    found = scores(predicted, mask, torch.tensor([0, 0, 1]))
    # patient 0: tp 4, fp 1, fn 2; patient 1: tp 1, fp 1, fn 0
    assert found == pytest.approx(
        {
            "dice": (8 / 11 + 2 / 3) / 2,
            "iou": (4 / 7 + 1 / 2) / 2,
            "precision": (4 / 5 + 1 / 2) / 2,
            "recall": (4 / 6 + 1) / 2,
            "dice_pooled": 10 / 14,
        }
    )


def test_an_empty_case_found_empty_counts_as_one_and_an_empty_image_does_not_count() -> None:
    predicted, mask = rows("0000", "1100", "0000"), rows("0000", "1000", "0000")
    assert scores(predicted, mask, torch.tensor([0, 0, 1]))["dice"] == pytest.approx(
        (2 / 3 + 1) / 2
    )
    assert scores(predicted, mask, torch.tensor([0, 0, 0]))["dice"] == pytest.approx(2 / 3)


def test_classes_are_averaged_within_a_case() -> None:
    # patient 0: class 1 has Dice 1, class 2 is nowhere; patient 1: class 1 has 0, class 2 has 1
    found = scores(rows("1100", "0022"), rows("1100", "1022"), torch.tensor([0, 1]), classes=3)
    assert found["dice"] == pytest.approx((1 + (0 + 1) / 2) / 2)


def test_neither_batches_nor_their_order_change_a_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, mask = torch.randint(0, 3, (2, 11, 6, 6), generator=generator)
    case = torch.arange(11) % 4
    expected = scores(predicted, mask, case, classes=3)
    assert scores(predicted, mask, case, classes=3, batch=2) == expected
    order = torch.randperm(11, generator=generator)
    assert scores(predicted[order], mask[order], case[order], classes=3, batch=4) == expected


def test_scores_reset_and_copy() -> None:
    collection = segmentation_scores(2, "val/")
    collection.update(rows("1"), rows("1"))
    other = copy.deepcopy(collection)
    collection.reset()
    collection.update(rows("1"), rows("0"))
    assert collection.compute()["val/dice"] == 0.0
    assert other.compute()["val/dice"] == 1.0


def test_a_patient_without_a_pixel_that_counts_is_left_out_of_every_mean() -> None:
    predicted, mask = rows("1100", "1111"), rows("1000", "0000")
    mask[1] = IGNORE
    found = scores(predicted, mask, torch.tensor([0, 1]))
    assert found["dice"] == found["dice_pooled"] == pytest.approx(2 / 3)
    assert all(math.isnan(v) for v in scores(predicted[1:], mask[1:]).values())


def test_regions_are_averaged_within_a_case() -> None:
    collection = segmentation_scores(2, "", regions=True)
    outer, inner = rows("1111"), rows("0110")
    collection.update(torch.stack([outer, outer], 1), torch.stack([outer, inner], 1))
    assert collection.compute()["dice"].item() == pytest.approx((1 + 4 / 6) / 2)
