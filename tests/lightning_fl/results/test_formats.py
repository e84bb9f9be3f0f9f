import math

import pytest

from lightning_fl.results.formats import (
    LOWER_IS_BETTER,
    bytes_text,
    gain_text,
    gain_unit,
    heading,
    in_unit,
    score_text,
    seconds_text,
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
    assert {"loss", "ece", "hd95", "volume_error"} == LOWER_IS_BETTER
    assert worst([0.1, 0.4], "ece") == 0.4
    assert worst([0.1, 0.4], "auroc") == 0.1


def test_auroc_stands_first_and_losses_last() -> None:
    names = ("accuracy", "auroc", "ece", "loss", "f1")
    results = {"mean": {"global": {"test": dict.fromkeys(names, 0.5)}}}
    assert metrics_of(results) == ["auroc", "accuracy", "f1", "ece", "loss"]
