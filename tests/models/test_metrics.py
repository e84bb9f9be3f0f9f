import copy

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
    multiclass_f1_score,
)

from models.metrics import segmentation_scores


def scores(predicted: list[int], mask: list[int], classes: int = 2) -> dict[str, float]:
    collection = segmentation_scores(classes, "")
    collection.update(torch.tensor(predicted, dtype=torch.uint8), torch.tensor(mask))
    return {name: value.item() for name, value in collection.compute().items()}


def random_labels(seed: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, (3, 8, 8), generator=generator)


def test_binary_scores_by_hand() -> None:
    # tp = 2, fp = 1, fn = 3
    found = scores([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0])
    assert found == pytest.approx(
        {"dice": 4 / 8, "iou": 2 / 6, "precision": 2 / 3, "recall": 2 / 5}
    )


def test_binary_scores_equal_torchmetrics() -> None:
    predicted, mask = random_labels(0, 2), random_labels(1, 2)
    collection = segmentation_scores(2, "")
    for image, truth in zip(predicted, mask, strict=True):
        collection.update(image, truth)
    found = collection.compute()
    assert found["dice"] == pytest.approx(binary_f1_score(predicted, mask))
    assert found["iou"] == pytest.approx(binary_jaccard_index(predicted, mask))
    assert found["precision"] == pytest.approx(binary_precision(predicted, mask))
    assert found["recall"] == pytest.approx(binary_recall(predicted, mask))


def test_pixels_are_pooled_and_not_averaged_over_batches() -> None:
    collection = segmentation_scores(2, "")
    collection.update(torch.tensor([1, 1, 1, 1]), torch.tensor([1, 1, 1, 1]))
    collection.update(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0]))
    assert collection.compute()["dice"].item() == pytest.approx(8 / 9)


def test_classes_are_averaged_by_hand_without_background() -> None:
    # class 1: tp 1, fp 1, fn 0; class 2: tp 1, fp 0, fn 1; class 3 is nowhere
    found = scores([1, 1, 2, 0, 0], [1, 0, 2, 2, 0], classes=4)
    assert found == pytest.approx({"dice": 2 / 3, "iou": 1 / 2, "precision": 0.75, "recall": 0.75})


def test_class_scores_equal_torchmetrics() -> None:
    predicted, mask = random_labels(2, 4), random_labels(3, 4)
    expected = multiclass_f1_score(predicted, mask, num_classes=4, average="none")[1:].mean()
    collection = segmentation_scores(4, "")
    collection.update(predicted, mask)
    assert collection.compute()["dice"] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_to_find_and_nothing_found_scores_one(classes: int) -> None:
    assert set(scores([0, 0], [0, 0], classes).values()) == {1.0}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("predicted", "mask"), [([0, 1], [0, 0]), ([0, 0], [0, 1])])
def test_all_found_falsely_or_all_missed_scores_zero(
    predicted: list[int], mask: list[int], classes: int
) -> None:
    assert set(scores(predicted, mask, classes).values()) == {0.0}


def test_torchmetrics_zero_division_rewards_empty_masks_with_precision_one() -> None:
    """The reason for our own rule: a net that finds nothing at all gets precision 1 there."""
    nothing, something = torch.tensor([0, 0]), torch.tensor([0, 1])
    assert binary_precision(nothing, something, zero_division=1).item() == 1.0
    assert scores([0, 0], [0, 1])["precision"] == 0.0


def test_scores_reset_and_copy() -> None:
    collection = segmentation_scores(2, "val/")
    collection.update(torch.tensor([1]), torch.tensor([1]))
    other = copy.deepcopy(collection)
    collection.reset()
    collection.update(torch.tensor([1]), torch.tensor([0]))
    assert collection.compute()["val/dice"] == 0.0
    assert other.compute()["val/dice"] == 1.0
