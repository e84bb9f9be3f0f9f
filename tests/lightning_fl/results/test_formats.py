import math

import pytest

from lightning_fl.results.formats import (
    LOWER_IS_BETTER,
    bytes_text,
    gain_text,
    gain_unit,
    heading,
    in_unit,
    range_text,
    score_text,
    seconds_text,
    spread_text,
)
from lightning_fl.results.scores import metrics_of
from lightning_fl.results.summary import worst


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (31_000_000, "31 MB"),
     (999_600, "1 MB"), (1_240_000_000, "1.24 GB"), (5e12, "5 TB"), (5e14, "500 TB")],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (0.1, "0.1 s"),
        (59.96, "1 min 0 s"),
        (245, "4 min 5 s"),
        (3600, "1 h 0 min"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_scores_are_percent_and_losses_are_not() -> None:
    assert (score_text(0.613, "dice"), score_text(0.613, "loss")) == ("61.3", "0.613")
    assert (gain_text(0.098, "dice"), gain_text(-0.5, "loss")) == ("+9.8", "-0.500")
    assert score_text(math.nan, "dice") == "–"  # noqa: RUF001  an en dash


@pytest.mark.parametrize(
    ("metric", "score", "gain", "title", "words"),
    [
        ("auroc", "61.3", "+61.3 points", "AUROC, %", " in percent"),
        ("ece", "61.3", "+61.3 points", "calibration error, %", " in percent"),
        ("hd95", "0.6", "+0.6 mm", "HD95, mm", " in mm"),
        ("volume_error", "0.6", "+0.6 ml", "volume error, ml", " in ml"),
        ("loss", "0.613", "+0.613", "loss", ""),
    ],
)
def test_metrics_have_their_units(
    metric: str, score: str, gain: str, title: str, words: str
) -> None:
    assert score_text(0.613, metric) == score
    assert gain_text(0.613, metric) + gain_unit(metric) == gain
    assert heading(metric) == title
    assert in_unit(metric) == words


def test_errors_and_distances_are_worst_when_high() -> None:
    distances = {"hd95", "hd95_px", "assd", "assd_px"}
    assert {"loss", "ece", "volume_error", *distances} == LOWER_IS_BETTER
    assert worst([0.1, 0.4], "ece") == 0.4
    assert worst([0.1, 0.4], "auroc") == 0.1


def test_auroc_stands_first_and_losses_last() -> None:
    names = ("accuracy", "auroc", "ece", "loss", "f1")
    results = {"mean": {"global": {"test": dict.fromkeys(names, 0.5)}}}
    assert metrics_of(results) == ["auroc", "accuracy", "f1", "ece", "loss"]


def test_pooled_dice_and_distances_have_names_and_units_of_their_own() -> None:
    names = ("dice", "dice_pooled", "hd95", "hd95_px", "assd", "assd_px")
    headings = "Dice, %; Dice (pooled), %; HD95, mm; HD95, px; ASSD, mm; ASSD, px"
    assert "; ".join(heading(name) for name in names) == headings


def test_a_spread_or_an_interval_that_is_missing_is_left_out() -> None:
    assert spread_text(0.613, 0.082, "dice") == "61.3 ± 8.2"
    assert spread_text(0.613, None, "dice") == spread_text(0.613, math.nan, "dice") == "61.3"
    assert range_text(0.551, 0.66, "dice") == "55.1 to 66.0"
    assert range_text(None, 0.66, "dice") == "–"  # noqa: RUF001  an en dash
