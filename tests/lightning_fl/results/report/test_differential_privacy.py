import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.results.report.rendering import render
from lightning_fl.results.report.report import write_report
from tests.lightning_fl.results.page_text import text_of

SITES: dict[str, Any] = {
    "name": "SiteLevelDP",
    "protects": "site",
    "clip": 1.0,
    "noise_multiplier": 1.5,
    "delta": 1e-5,
    "epsilon": 4.56789,
    "to_another_site": 5.0,
    "replaced": 12.0,
    "secret_sampling": None,
    "rounds": [
        {"round": 1, "sums": 1, "epsilon": 3.0},
        {"round": 2, "sums": 2, "epsilon": 4.56789},
    ],
}
SAMPLES: dict[str, Any] = {
    "name": "SampleLevelDP",
    "protects": "sample",
    "max_grad_norm": 0.5,
    "delta": 1e-5,
    "epsilon": 2.0,
    "sites": {"A": {"noise_multiplier": 1.1, "sample_rate": 0.25, "steps": 8, "epsilon": 2.0}},
    "rounds": [{"round": 1, "epsilon": 2.0}],
}


def section(privacy: dict[str, Any]) -> str:
    return text_of(render("differential_privacy.html", privacy=privacy))


def test_the_sentence() -> None:
    assert (
        "After 2 rounds, each site has epsilon 4.57 at most, at delta 1e-05 (SiteLevelDP, clipped "
        "to 1, noise multiplier 1.5)."
    ) in section(SITES)
    assert (
        "After 1 round, each training sample has epsilon 2 at most, at delta 1e-05 (SampleLevelDP, "
        "clipped to 0.5)."
    ) in section(SAMPLES)
    unbounded = section(SITES | {"epsilon": None})
    assert "There is no bound, because a step had no noise (SiteLevelDP," in unbounded


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        (SITES, ["to one more site, which knows its own noise", "no bound", "4.57, 2 sums"]),
        (SAMPLES, ["sampling rate", "k times this epsilon", "round 1: epsilon 2"]),
    ],
)
def test_the_report_has_a_section_of_it(
    make_run: Callable[..., Path], privacy: dict[str, Any], words: list[str]
) -> None:
    run = make_run()
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"privacy": privacy}))
    text = text_of(write_report(run).read_text())
    assert "Differential privacy" in text
    assert all(part in text for part in words)


def test_there_is_no_section_without_it(make_run: Callable[..., Path]) -> None:
    assert "Differential privacy" not in write_report(make_run()).read_text()
