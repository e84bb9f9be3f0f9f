import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
    binary_recall,
    binary_specificity,
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_f1_score,
    multiclass_recall,
    multiclass_specificity,
)

from models.classification_metrics import auroc, classification_scores, multilabel_scores

SHARES = ("accuracy", "balanced_accuracy", "f1", "sensitivity", "specificity")


def cases(classes: int, count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator)
    return logits.softmax(dim=1), torch.randint(0, classes, (count,), generator=generator)


def scored(probabilities: Tensor, labels: Tensor, batch: int = 7) -> dict[str, float]:
    scores = classification_scores(probabilities.shape[1], "")
    for start in range(0, len(labels), batch):
        scores.update(probabilities[start : start + batch], labels[start : start + batch])
    return {name: float(value) for name, value in scores.compute().items()}


def binary(*diseased: float) -> Tensor:
    return torch.tensor([[1 - p, p] for p in diseased])


def test_scores_by_hand() -> None:
    labels = torch.tensor([1, 1, 1, 0, 0])
    found = scored(binary(0.9, 0.8, 0.3, 0.6, 0.1), labels)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["f1"] == pytest.approx(4 / 6)
    assert found["auroc"] == pytest.approx(5 / 6)  # of six pairs only (0.3, 0.6) is the wrong way


def test_calibration_error_by_hand() -> None:
    sure = binary(0.9, 0.9, 0.9, 0.1)  # confidence 0.9 throughout, three of four are right
    assert scored(sure, torch.tensor([1, 1, 0, 0]))["ece"] == pytest.approx(0.9 - 0.75)
    # two bins: 0.9 with one of two right, 0.6 with two of two right
    both = scored(binary(0.9, 0.9, 0.6, 0.4), torch.tensor([1, 0, 1, 0]))
    assert both["ece"] == pytest.approx((0.4 + 0.4) / 2)


def test_two_classes_agree_with_torchmetrics() -> None:
    probabilities, labels = cases(2)
    found = scored(probabilities, labels)
    disease = probabilities[:, 1]
    assert found["auroc"] == pytest.approx(float(binary_auroc(disease, labels)))
    assert found["f1"] == pytest.approx(float(binary_f1_score(disease, labels)))
    assert found["sensitivity"] == pytest.approx(float(binary_recall(disease, labels)))
    assert found["specificity"] == pytest.approx(float(binary_specificity(disease, labels)))


def test_four_classes_are_means_as_in_torchmetrics() -> None:
    probabilities, labels = cases(4)
    found = scored(probabilities, labels)
    args = (probabilities, labels, 4)
    micro = multiclass_accuracy(*args, average="micro")
    assert found["accuracy"] == pytest.approx(float(micro))
    assert found["auroc"] == pytest.approx(float(multiclass_auroc(*args)))
    assert found["f1"] == pytest.approx(float(multiclass_f1_score(*args)))
    assert found["sensitivity"] == pytest.approx(float(multiclass_recall(*args)))
    assert found["balanced_accuracy"] == found["sensitivity"]
    assert found["specificity"] == pytest.approx(float(multiclass_specificity(*args)))


def test_batches_do_not_matter() -> None:
    probabilities, labels = cases(3)
    assert scored(probabilities, labels, 1) == pytest.approx(scored(probabilities, labels, 60))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_auroc_and_no_warning(label: int) -> None:
    labels = torch.full((3,), label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scored(binary(0.9, 0.2, 0.3), labels)
    right = 1 / 3 if label else 2 / 3
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx(right)
    assert found["sensitivity" if label else "specificity"] == pytest.approx(right)
    assert math.isnan(found["specificity" if label else "sensitivity"])
    assert math.isnan(found["auroc"])


def test_a_class_that_nobody_has_takes_no_part_in_means() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    found = scored(probabilities, torch.tensor([0, 1, 1]))
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["auroc"] == pytest.approx((1 + 3 / 4) / 2)  # class 1: one pair right, one tied
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # class 2 is predicted


def test_tied_cases_count_half() -> None:
    assert float(auroc(binary(0.5, 0.5), torch.tensor([0, 1]))) == 0.5


def test_probabilities_that_are_not_numbers_do_not_stop_the_evaluation() -> None:
    assert set(scored(torch.full((2, 2), math.nan), torch.tensor([0, 1]))) == {
        "auroc",
        "ece",
        *SHARES,
    }


def test_several_labels_are_scored_where_they_are_there() -> None:
    nan = math.nan
    probabilities = torch.tensor(
        [[0.9, 0.2, 0.5], [0.8, 0.6, 0.5], [0.3, 0.7, 0.5], [0.6, 0.1, 0.5]]
    )
    labels = torch.tensor([[1, nan, 0], [0, 1, nan], [0, 0, 0], [nan, 0, 0.0]])
    scores = multilabel_scores(3, "")
    for start in range(0, 4, 2):
        scores.update(probabilities[start : start + 2], labels[start : start + 2])
    found = {name: float(value) for name, value in scores.compute().items()}
    first, second = probabilities[:3, 0], probabilities[1:, 1]
    truths = torch.tensor([1, 0, 0])
    references: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "auroc": binary_auroc,
        "average_precision": binary_average_precision,
    }
    for name, reference in references.items():
        expected = [float(reference(first, truths)), float(reference(second, truths))]
        assert [found[f"{name}/1"], found[f"{name}/2"]] == pytest.approx(expected)
        assert math.isnan(found[f"{name}/3"])  # nobody has it
        assert found[name] == pytest.approx(sum(expected) / 2)
