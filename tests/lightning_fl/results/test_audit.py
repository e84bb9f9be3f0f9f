import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lightning_fl.results.audit import coins_table, headline, views_table
from lightning_fl.results.report import write_report


def view(name: str, psnr: float, verdict: str, *, protected: bool) -> dict[str, Any]:
    return {
        "view": name,
        "title": f"Party <{name}>",
        "sees": "some bytes",
        "protected": protected,
        "seeds": 2,
        "trials": 4,
        "psnr": psnr,
        "psnr_sd": 1.25,
        "ssim": 0.5,
        "ssim_sd": 0.125,
        "identified": 0.75,
        "label_right": None if protected else 1.0,
        "guess_psnr": 10.5,
        "verdict": verdict,
        "words": verdict.capitalize() + ".",
    }


CONTROL = view("plain", 31.2, "comes back", protected=False)
HIDDEN = view("coordinator", 5.0, "no better than guessing", protected=True)
FLOOR = view("noise", 5.0, "no better than guessing", protected=True)
SETTINGS = {"candidates": 32, "common_label": 0.75}
COIN = {
    "view": "coordinator",
    "title": "Coordinator",
    "trials": 1000,
    "accuracy": 0.512,
    "interval": [0.481, 0.543],
    "words": "A coin.",
}


def test_the_headline_says_that_the_attack_works_and_nothing_leaks() -> None:
    assert headline([CONTROL, HIDDEN, FLOOR]) == (
        "From an update in the clear the image comes back (31.2 dB). Of 1 protected views none is "
        "better than guessing."
    )


def test_the_headline_names_a_leak() -> None:
    leak = HIDDEN | {"verdict": "shows something"}
    said = headline([CONTROL, leak, FLOOR])
    assert said.endswith("should be protected show something: Party <coordinator>.")


def test_an_attack_that_does_not_work_proves_nothing() -> None:
    weak = CONTROL | {"verdict": "shows something", "psnr": 12.0}
    assert "too weak for this task (12.0 dB)" in headline([weak, HIDDEN])


def test_the_table_has_a_row_for_each_view() -> None:
    html = views_table([CONTROL, HIDDEN], SETTINGS)
    assert html.count("<tr>") == 3
    words = ("31.2 ± 1.2", "10.5", "0.50 ± 0.12", "<td>100</td>", "of 32 training images", "75 %")
    for word in words:
        assert word in html.replace("\N{NO-BREAK SPACE}", " ")
    assert "Party &lt;plain&gt;: some bytes" in html


def test_the_coins_have_their_interval() -> None:
    html = coins_table([COIN])
    for words in ("1000", "51.2", "48.1 to 54.3", "A coin."):
        assert words in html
    assert coins_table([]) == ""


@pytest.mark.parametrize("pictures", [False, True])
def test_the_report_has_a_section_of_it(make_run: Callable[..., Path], pictures: bool) -> None:
    run = make_run()
    record = {"settings": SETTINGS, "views": [CONTROL, HIDDEN], "distinguishing": [COIN]}
    (run / "audit.json").write_text(json.dumps(record))
    if pictures:
        images = np.random.default_rng(0).random((2, 1, 16, 16), dtype=np.float32)
        kinds = ("plain/truth", "plain/found", "coordinator/truth", "coordinator/found")
        save_file(dict.fromkeys(kinds, images), run / "audit.safetensors")
    html = write_report(run).read_text()
    assert "<h2>Privacy audit</h2>" in html
    assert html.count("reconstruction</div>") == (4 if pictures else 0)
    assert ("True training images" in html) == pictures


def test_there_is_no_section_without_an_audit(make_run: Callable[..., Path]) -> None:
    assert "Privacy audit" not in write_report(make_run()).read_text()
