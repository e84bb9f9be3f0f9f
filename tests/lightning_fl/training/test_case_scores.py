import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.cases import collate_cases
from lightning_fl.data.module import IGNORE
from lightning_fl.training.case_scores import CaseScores, ScoreImages
from lightning_fl.training.fitting import TrainerOptions, evaluate
from tests.toy import ToyModule, toy_loader

OPTIONS = TrainerOptions(local_steps=1, accelerator="cpu")


class Copy(pl.LightningModule):
    """Returns the images as the masks that it has predicted."""

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("test/loss", 0.0)
        image: Tensor = batch["image"]
        return image.to(torch.uint8)


def rows(*texts: str) -> Tensor:
    """Images of two rows, e.g. "0110 0000"."""
    return torch.tensor([[[int(c) for c in row] for row in text.split()] for text in texts])


def score(
    predicted: Tensor,
    truth: Tensor,
    cases: list[int],
    *,
    batch: int = 2,
    classes: int = 2,
    spacing: tuple[float, float] | None = None,
) -> CaseScores:
    columns = zip(predicted, truth, torch.tensor(cases), strict=True)
    samples: Any = [{"image": p, "mask": t, "case": c} for p, t, c in columns]
    scores = evaluated(Copy(), DataLoader(samples, batch_size=batch), spacing, classes)
    assert scores is not None
    return scores


def evaluated(
    module: pl.LightningModule,
    loader: DataLoader[Any],
    spacing: tuple[float, float] | None = None,
    classes: int = 2,
) -> CaseScores | None:
    images = ScoreImages(spacing)
    evaluate(module, loader, "test", OPTIONS, callbacks=[images])
    return images.scores(classes)


PREDICTED = rows("1100 0000", "1000 0000", "0000 0000", "0011 0000")
TRUTH = rows("1000 0000", "1000 0001", "0000 0000", "0000 0000")
CASES = [4, 1, 4, 1]


def test_a_patients_overlap_is_that_of_all_its_images_together() -> None:
    found = score(PREDICTED, TRUTH, CASES)
    assert found.numbers == [1, 4]
    # patient 1: tp 1, fp 2, fn 1; patient 4: tp 1, fp 1, fn 0
    for metric, expected in {
        "dice": (2 / 5, 2 / 3),
        "iou": (1 / 4, 1 / 2),
        "precision": (1 / 3, 1 / 2),
        "recall": (1 / 2, 1.0),
    }.items():
        assert found.cases["", metric].tolist() == pytest.approx(expected)
    assert found.images["", "dice"].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0, 0.0])


def test_a_patients_distances_are_means_over_the_images_where_they_are_defined() -> None:
    found = score(PREDICTED, TRUTH, CASES, spacing=(2.0, 1.0))
    diagonal = math.hypot(2 * 2, 4)
    # image 1 misses the pixel 3 columns and 1 row away; the prediction's own pixel is hit
    missed = math.hypot(3, 2)
    nan = pytest.approx(math.nan, nan_ok=True)
    assd = found.images["", "assd"].tolist()
    assert assd[:2] == pytest.approx([(0 + 1 + 0) / 3, (0 + 0 + missed) / 3])
    assert (assd[2], assd[3]) == (nan, pytest.approx(diagonal))
    by_patient = [(missed / 3 + diagonal) / 2, 1 / 3]
    assert found.cases["", "assd"].tolist() == pytest.approx(by_patient)
    assert found.cases["", "hd95"][1] == pytest.approx(0.95)  # of the distances 0 and 1


def test_distances_without_a_pixel_size_are_in_pixels_and_say_so() -> None:
    found = score(PREDICTED, TRUTH, CASES)
    assert {"hd95_px", "assd_px"} < {metric for _, metric in found.cases}
    assert found.images["", "hd95_px"][3] == pytest.approx(math.hypot(2, 4))


def test_several_classes_have_scores_of_their_own_and_a_mean() -> None:
    predicted, truth = rows("1122 0000", "0000 0000"), rows("1120 0000", "0000 0000")
    found = score(predicted, truth, [0, 1], classes=4)
    assert found.cases["1", "dice"].tolist() == [1.0, 1.0]
    assert found.cases["2", "dice"].tolist() == pytest.approx([2 / 3, 1.0])
    assert found.cases["3", "dice"].tolist() == [1.0, 1.0]  # it is nowhere
    assert found.cases["", "dice"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert found.cases["1", "hd95_px"].tolist() == pytest.approx([0.0, math.nan], nan_ok=True)
    assert found.cases["3", "hd95_px"].isnan().all()
    assert {label for label, _ in score(PREDICTED, TRUTH, CASES).cases} == {""}


def test_neither_batches_nor_their_order_change_a_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, truth = torch.randint(0, 3, (2, 7, 6, 6), generator=generator)
    cases = [0, 1, 2, 0, 1, 2, 0]
    one, many = (score(predicted, truth, cases, batch=n) for n in (1, 7))
    assert all(torch.equal(one.cases[key], many.cases[key]) for key in one.cases)
    order = [3, 0, 6, 5, 4, 2, 1]
    other = score(predicted[order], truth[order], [cases[i] for i in order])
    for key, values in one.cases.items():
        torch.testing.assert_close(other.cases[key], values, rtol=1e-12, atol=0)


def test_tasks_without_masks_have_no_cases() -> None:
    assert evaluated(ToyModule(), toy_loader(8)) is None


@pytest.mark.parametrize(
    "other", [torch.Tensor.float, lambda masks: masks[:, None], lambda _: None]
)
def test_steps_that_return_no_masks_have_no_cases(other: Callable[[Tensor], Tensor]) -> None:
    class Other(Copy):
        def test_step(self, batch: Any, batch_idx: int) -> Tensor:
            return other(super().test_step(batch, batch_idx))

    samples: Any = [{"image": PREDICTED[0], "mask": TRUTH[0], "case": torch.tensor(0)}]
    assert evaluated(Other(), DataLoader(samples)) is None


def test_batches_that_know_no_cases_have_none() -> None:
    samples: Any = [{"image": PREDICTED[0], "mask": TRUTH[0]}]
    assert evaluated(Copy(), DataLoader(samples)) is None


def test_ignored_pixels_have_no_overlap_and_no_distance() -> None:
    predicted, truth = rows("1100 0001", "1111 1111"), rows("1000 0000", "0000 0000")
    truth[0, 1], truth[0, 0, 3], truth[1] = IGNORE, IGNORE, IGNORE
    found = score(predicted, truth, [0, 1], classes=3)
    nan = pytest.approx(math.nan, nan_ok=True)
    assert found.cases["", "dice"].tolist() == [pytest.approx(2 / 3), nan]
    assert found.cases["", "assd_px"].tolist() == [pytest.approx(1 / 3), nan]
    assert found.cases["2", "dice"].tolist() == [1.0, nan]


def test_regions_have_scores_of_their_own() -> None:
    class Regions(Copy):
        regions = True

    outer, inner = rows("1111 1111", "0110 0110"), rows("0110 0000", "0110 0000")
    samples: Any = [
        {
            "image": torch.stack([p, t]),
            "mask": torch.stack([p, t * IGNORE]),
            "case": torch.tensor(n),
        }
        for n, (p, t) in enumerate(zip(outer, inner, strict=True))
    ]
    samples[0]["mask"][1] = outer[0]
    found = evaluated(Regions(), DataLoader(samples, batch_size=2), (1.0, 1.0))
    assert found is not None
    assert found.cases["1", "dice"].tolist() == [1.0, 1.0]
    assert found.cases["2", "dice"].tolist() == pytest.approx([4 / 10, 1.0])
    assert found.cases["2", "assd"][0] > 0


def test_masks_before_resizing_are_scored_on_their_own_pixels() -> None:
    class Enlarged(Copy):
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            super().test_step(batch, batch_idx)
            return batch["original"]

    sizes = [(4, 8), (2, 4)]
    samples: Any = [
        {
            "image": p,
            "mask": p,
            "case": torch.tensor(0),
            "original": torch.ones(s, dtype=torch.long),
        }
        for p, s in zip(PREDICTED, sizes, strict=False)
    ]
    loader = DataLoader(samples, batch_size=2, collate_fn=collate_cases)
    found = evaluated(Enlarged(), loader, (1.0, 1.0))
    assert found is not None
    assert found.images["", "iou"].tolist() == [1.0, 1.0]
    assert found.cases["", "hd95"].tolist() == [0.0]
