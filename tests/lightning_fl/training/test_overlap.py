import math
from collections.abc import Callable

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

from lightning_fl.training.overlap import (
    OVERLAP,
    Counted,
    class_scores,
    foreground_scores,
    overlap_counts,
    sum_by_case,
)


def scores(predicted: list[int], mask: list[int], classes: int = 2) -> dict[str, float]:
    """The scores of one image of one row."""
    counts = overlap_counts(torch.tensor([predicted]), torch.tensor([mask]), classes)
    return {name: foreground_scores(score, counts).item() for name, score in OVERLAP.items()}


def random_labels(seed: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, (3, 8, 8), generator=generator)


def test_binary_scores_by_hand() -> None:
    # tp = 2, fp = 1, fn = 3
    found = scores([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0])
    assert found == pytest.approx(
        {"dice": 4 / 8, "iou": 2 / 6, "precision": 2 / 3, "recall": 2 / 5}
    )


def test_binary_scores_of_each_image_equal_torchmetrics() -> None:
    predicted, mask = random_labels(0, 2), random_labels(1, 2)
    counts = overlap_counts(predicted.to(torch.uint8), mask, 2)
    references: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "dice": binary_f1_score,
        "iou": binary_jaccard_index,
        "precision": binary_precision,
        "recall": binary_recall,
    }
    for name, reference in references.items():
        expected = torch.stack([reference(p, m) for p, m in zip(predicted, mask, strict=True)])
        torch.testing.assert_close(foreground_scores(OVERLAP[name], counts), expected)


def test_scores_of_each_class_equal_torchmetrics() -> None:
    predicted, mask = random_labels(2, 4), random_labels(3, 4)
    counts = overlap_counts(predicted, mask, 4)
    for image in range(3):
        expected = multiclass_f1_score(predicted[image], mask[image], num_classes=4, average="none")
        torch.testing.assert_close(class_scores(OVERLAP["dice"], counts)[image], expected[1:])


def test_classes_are_averaged_by_hand_without_background() -> None:
    # class 1: tp 1, fp 1, fn 0; class 2: tp 1, fp 0, fn 1; class 3 is nowhere
    found = scores([1, 1, 2, 0, 0], [1, 0, 2, 2, 0], classes=4)
    assert found == pytest.approx({"dice": 2 / 3, "iou": 1 / 2, "precision": 0.75, "recall": 0.75})


def test_a_class_that_is_nowhere_scores_one_by_itself() -> None:
    counts = overlap_counts(torch.tensor([[1, 0]]), torch.tensor([[0, 1]]), 3)
    assert class_scores(OVERLAP["dice"], counts).tolist() == [[0.0, 1.0]]


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


def test_images_of_a_case_are_added_up_wherever_they_stand() -> None:
    counts = torch.tensor([1, 10, 100, 1000]).view(4, 1, 1)
    summed = sum_by_case(counts, torch.tensor([7, 2, 7, 2]))
    assert summed.flatten().tolist() == [1010, 101]


def test_an_image_without_case_is_a_case_by_itself() -> None:
    counts = torch.tensor([1, 10, 100, 1000]).view(4, 1, 1)
    summed = sum_by_case(counts, torch.tensor([-1, 0, -1, 0]))
    assert sorted(summed.flatten().tolist()) == [1, 100, 1010]


def test_ignored_pixels_are_in_no_count() -> None:
    counts = overlap_counts(torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1, 255, 255, 0]]), 3)
    assert counts.tolist() == [[[1, 0], [0, 0], [0, 0], [1, 2]]]
    assert class_scores(OVERLAP["precision"], counts).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("score", OVERLAP.values())
def test_an_image_that_is_wholly_ignored_has_no_score(score: Counted) -> None:
    counts = overlap_counts(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[255, 255], [0, 1]]), 3)
    assert foreground_scores(score, counts).tolist() == pytest.approx([math.nan, 1], nan_ok=True)
    assert class_scores(score, counts)[0].isnan().all()


def test_overlapping_regions_are_counted_one_by_one() -> None:
    predicted = torch.tensor([[[1, 1, 0], [0, 1, 0], [1, 1, 1]]])
    truth = torch.tensor([[[1, 1, 1], [0, 1, 255], [255, 255, 255]]])
    counts = overlap_counts(predicted, truth, 2, regions=True)
    assert counts[0].T.tolist() == [[2, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert foreground_scores(OVERLAP["dice"], counts).item() == pytest.approx((4 / 5 + 1) / 2)


def test_images_of_several_sizes_are_counted_in_a_list() -> None:
    masks = [torch.tensor([[0, 1]]), torch.tensor([[1, 1], [2, 0]])]
    counts = overlap_counts(masks, masks, 3)
    assert counts[:, 0].tolist() == [[1, 0], [2, 1]]
