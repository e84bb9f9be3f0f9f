import math

import pytest

from lightning_fl.results.formats import bytes_text, gain_text, score_text, seconds_text


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
