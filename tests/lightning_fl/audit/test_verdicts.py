import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightning_fl.audit.trials import TrialRow
from lightning_fl.audit.verdicts import ViewTrials


def row(
    psnr: float,
    *,
    guess: float = 10.0,
    ssim: float = 0.0,
    found: float = 0.0,
    label: float = 1.0,
    related: float = 0.0,
    seed: int = 0,
    trial: int = 0,
    images: int = 1,
) -> TrialRow:
    return TrialRow(
        view="plain",
        seed=seed,
        trial=trial,
        images=images,
        psnr=psnr,
        ssim=ssim,
        identified=found,
        luck=1 / 32,
        label_right=label,
        correlation=related,
        length=10_000,
        guess_psnr=guess,
        objective=0.5,
        seconds=1.0,
    )


def view(rows: Sequence[TrialRow], floor: Sequence[TrialRow] = ()) -> ViewTrials:
    return ViewTrials(rows, floor, common_label=0.75)


def judged(rows: Sequence[TrialRow], floor: Sequence[TrialRow] = ()) -> str:
    return view(rows, floor).verdict


def record(rows: Sequence[TrialRow]) -> dict[str, Any]:
    return view(rows).record()


@pytest.mark.parametrize(
    ("psnr", "expected"),
    [
        ([19, 21], "comes back"),
        ([19, 20.9], "shows something"),
        ([11, 12, 11, 12], "shows something"),
        ([9, 12, 8, 11], "no better than guessing"),
        ([5, 6], "no better than guessing"),
        ([10.1], "shows something"),
        ([9.9], "no better than guessing"),
    ],
)
def test_verdict_follows_the_psnr(psnr: Sequence[float], expected: str) -> None:
    assert judged([row(value) for value in psnr]) == expected


def test_a_gain_that_students_t_takes_for_chance_is_no_gain() -> None:
    """Quantiles of 99 %: with 4 gains 4.54 standard errors, with 5 gains 3.75."""
    four = [row(10 + gain) for gain in (1, 1, 2, 2.6)]  # mean 1.65, standard error 0.394: 4.19
    assert judged(four) == "no better than guessing"
    five = [*four, row(11.65)]  # the same mean, standard error 0.305: 5.41
    assert judged(five) == "shows something"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_gains_of_nothing_are_taken_for_something_once_in_a_hundred(count: int) -> None:
    generator = np.random.default_rng(0)
    drawn = [10 + generator.normal(0, 1, count) for _ in range(2000)]
    alarms = [
        judged([row(psnr) for psnr in trials]) != "no better than guessing" for trials in drawn
    ]
    assert np.mean(alarms) == pytest.approx(0.01, abs=0.01)


def test_a_view_is_compared_with_what_noise_gives_in_the_same_trial() -> None:
    """All are far below a blind guess, and yet nearer, or more alike, than the attack on noise."""
    psnr = [2, 9, 4, 7]
    floor = [row(value, trial=trial) for trial, value in enumerate(psnr)]
    nearer = [row(value + 1, trial=trial) for trial, value in enumerate(psnr)]
    assert view(nearer, floor).signs == ("nearer than what noise gives",)
    alike = [row(value, ssim=0.1, trial=trial) for trial, value in enumerate(psnr)]
    assert view(alike, floor).signs == ("more alike than what noise gives",)
    assert judged(floor, floor) == "no better than guessing"
    assert judged([row(r.psnr, images=8, trial=r.trial) for r in nearer], floor) == (
        "no better than guessing"  # noise has no row for eight images
    )


def test_a_guess_that_is_correlated_with_the_update_is_something() -> None:
    """Of 10,000 values chance gives 0.01, and one guess is beyond it from 0.04."""
    assert judged([row(5, related=0.039)]) == "no better than guessing"
    assert judged([row(5, related=-0.041)]) == "shows something"
    several = [row(5, related=0.025 * (-1) ** trial, trial=trial) for trial in range(10)]
    assert judged(several) == "shows something"


def test_labels_that_are_read_are_something() -> None:
    """Of 20 labels, 75 % of which are the common one, all right: probability 0.003."""
    assert judged([row(5)] * 10) == "no better than guessing"  # probability 0.056
    assert view([row(5)] * 20).signs == ("labels read",)
    assert judged([row(5), *[row(5, label=0.0)] * 19]) == "no better than guessing"


def test_images_found_by_more_than_luck_are_something() -> None:
    once = [row(5, found=1.0), *(row(5) for _ in range(4))]
    assert judged(once) == "no better than guessing"  # probability 0.15
    thrice = [row(5, found=1.0)] * 3 + [row(5)] * 2
    assert judged(thrice) == "shows something"  # probability 0.0003


def test_summary_by_hand() -> None:
    rows = [row(30, found=1.0, ssim=0.3), row(40, label=0.0, ssim=0.4, related=0.01)]
    found = record(rows)
    assert (found["trials"], found["psnr"], found["guess_psnr"]) == (2, 35, 10)
    assert found["psnr_sd"] == pytest.approx(50**0.5)
    assert found["ssim"] == pytest.approx(0.35)
    assert (found["identified"], found["luck"], found["label_right"]) == (0.5, 1 / 32, 0.5)
    assert found["correlation"] == pytest.approx(0.01 / 2**0.5)
    assert found["verdict"] == "comes back"
    assert found["words"] == "The image comes back."


def test_the_words_say_what_was_seen() -> None:
    assert (
        view([row(11)]).words == "Not the image, but more than a guess: nearer than a blind guess."
    )


def test_a_label_that_was_told_is_not_counted() -> None:
    assert record([row(30, label=math.nan)])["label_right"] is None


def test_one_trial_has_no_spread() -> None:
    assert record([row(30)])["psnr_sd"] is None


def test_the_spread_over_seeds_is_that_of_their_means() -> None:
    """Means 35 and 25 of two seeds: standard deviation sqrt(50), whatever is inside a seed."""
    rows = [row(20, seed=4), row(50, seed=4), row(25, seed=5), row(25, seed=5)]
    found = record(rows)
    assert (found["seeds"], found["trials"], found["psnr"]) == (2, 4, 30)
    assert found["psnr_sd"] == pytest.approx(50**0.5)


def test_trials_with_the_same_weights_are_no_independent_gains() -> None:
    """Gains of 0 and 2 dB, each many times over: of two seeds, mean 1 and standard error 1."""
    rows = [row(10 + 2 * seed, label=0.0, seed=seed) for seed in (0, 1) for _ in range(10)]
    assert judged(rows) == "no better than guessing"
    assert judged([row(r.psnr, label=0.0) for r in rows]) == "shows something"
