import math

import pytest
import torch

from lightning_fl.audit import image_scores
from lightning_fl.audit.attacks.image_scores import (
    best_order,
    identifiability,
    luck,
    mse_table,
)
from lightning_fl.errors import ConfigError, DataError
from tests.lightning_fl.audit.victims import pictures


def test_scores_of_a_constant_error_by_hand() -> None:
    truth = pictures(2)
    found = image_scores(truth + 0.1, truth)
    assert found.psnr == pytest.approx(20, abs=1e-3)
    twice = image_scores(truth + 0.1, truth, values=(0, 2))
    assert twice.psnr == pytest.approx(20 + 20 * math.log10(2), abs=1e-3)


def test_equal_images_in_another_order_score_best() -> None:
    truth = pictures(3)
    found = image_scores(truth[[2, 0, 1]], truth)
    assert found.psnr == 100
    assert found.ssim == pytest.approx(1)


def test_order_is_that_of_the_smallest_sum_not_of_the_nearest() -> None:
    truth = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    images = torch.tensor([0.9, 3.0]).view(2, 1, 1, 1)
    # Both true images are nearest to 0.9; as pairs, 0.81 + 4 is less than 9 + 0.01.
    assert best_order(images, truth).tolist() == [0, 1]


def test_an_image_is_identified_if_no_candidate_is_nearer_than_the_true_one() -> None:
    candidates = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(4, 1, 1, 1)
    images = torch.tensor([0.1, 0.1, 2.9, 0.9]).view(4, 1, 1, 1)
    assert identifiability(images, [0, 2, 3, 0], candidates) == 0.5
    assert identifiability(images[:1] + 0.4, [1], candidates) == 1  # as near as image 0


def test_table_holds_the_mse_of_each_pair() -> None:
    first, second = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    assert mse_table(first, second).tolist() == [[5.0, 2.0]]


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"true images' shape \(2, 1, 16, 16\), but got"):
        image_scores(pictures(1), pictures(2))
    with pytest.raises(DataError, match=r"Expected 2 reconstructions .* but got \(1, 1, 16, 16\)"):
        identifiability(pictures(1), [0, 1], pictures(2))


def test_images_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        image_scores(pictures() * float("nan"), pictures())


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 11 x 11 pixels, but got"):
        image_scores(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_a_single_image_is_found_by_luck_once_in_as_many_trials_as_candidates() -> None:
    assert luck(torch.rand(1, 1, 16, 16), torch.rand(20, 1, 16, 16)) == 1 / 20


def test_batches_are_found_by_luck_more_often() -> None:
    """As often as noise identifies, when it is lined up with images that it has nothing of."""
    generator = torch.Generator().manual_seed(0)
    candidates = torch.rand(32, 1, 8, 8, generator=generator)
    rates, expected = [], []
    for trial in range(300):
        guess = torch.rand(8, 1, 8, 8, generator=generator)
        numbers = torch.randperm(32, generator=generator)[:8].tolist()
        order = best_order(guess, candidates[numbers])
        rates.append(identifiability(guess[order], numbers, candidates))
        expected.append(luck(guess, candidates, draws=20, seed=trial))
    assert sum(rates) / 300 > 2 / 32
    assert sum(expected) / 300 == pytest.approx(sum(rates) / 300, rel=0.15)
