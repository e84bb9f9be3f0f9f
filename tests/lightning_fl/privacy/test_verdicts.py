import math
from collections.abc import Sequence

import pytest

from lightning_fl.privacy.trials import TrialRow
from lightning_fl.privacy.verdicts import summarise, verdict


def row(
    psnr: float, *, guess: float = 10.0, found: float = 0.0, label: float = 1.0, seed: int = 0
) -> TrialRow:
    return TrialRow("plain", seed, 0, 1, psnr, psnr / 100, found, label, guess, 0.5, 1.0)


@pytest.mark.parametrize(
    ("psnr", "expected"),
    [
        ([19, 21], "comes back"),
        ([19, 20.9], "shows something"),
        ([11, 12, 11, 12], "shows something"),
        ([9, 12, 8, 11], "no better than guessing"),
        ([5, 6], "no better than guessing"),
    ],
)
def test_verdict_follows_the_psnr(psnr: Sequence[float], expected: str) -> None:
    assert verdict([row(value) for value in psnr], candidates=32) == expected


def test_a_gain_within_two_standard_errors_is_no_gain() -> None:
    """Gains of 0, 1, 2 dB: mean 1, standard error 0.577."""
    three = [row(value) for value in (10, 11, 12)]
    assert verdict(three, candidates=32) == "no better than guessing"
    four = [*three, row(11.5)]  # mean 1.125, standard error 0.427
    assert verdict(four, candidates=32) == "shows something"


def test_images_found_by_more_than_luck_are_something() -> None:
    once = [row(5, found=1.0), *(row(5) for _ in range(4))]
    assert verdict(once, candidates=32) == "no better than guessing"  # probability 0.15
    thrice = [row(5, found=1.0)] * 3 + [row(5)] * 2
    assert verdict(thrice, candidates=32) == "shows something"  # probability 0.0003


def test_summary_by_hand() -> None:
    found = summarise([row(30, found=1.0), row(40, found=0.0, label=0.0)], candidates=8)
    assert (found.trials, found.psnr, found.guess_psnr) == (2, 35, 10)
    assert found.psnr_sd == pytest.approx(50**0.5)
    assert found.ssim == pytest.approx(0.35)
    assert (found.identified, found.label_right) == (0.5, 0.5)
    assert found.verdict == "comes back"


def test_a_label_that_was_told_is_not_counted() -> None:
    assert summarise([row(30, label=math.nan)], candidates=8).label_right is None


def test_one_trial_has_no_spread() -> None:
    assert summarise([row(30)], candidates=8).psnr_sd == 0


def test_the_spread_over_seeds_is_that_of_their_means() -> None:
    """Means 35 and 25 of two seeds: standard deviation sqrt(50), whatever is inside a seed."""
    rows = [row(20, seed=4), row(50, seed=4), row(25, seed=5), row(25, seed=5)]
    found = summarise(rows, candidates=8)
    assert (found.seeds, found.trials, found.psnr) == (2, 4, 30)
    assert found.psnr_sd == pytest.approx(50**0.5)


def test_trials_with_the_same_weights_are_no_independent_gains() -> None:
    """Gains of 0 and 2 dB, each many times over: of two seeds, mean 1 and standard error 1."""
    rows = [row(10 + 2 * seed, seed=seed) for seed in (0, 1) for _ in range(10)]
    assert verdict(rows, candidates=32) == "no better than guessing"
    assert verdict([row(r.psnr) for r in rows], candidates=32) == "shows something"
