import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lightning_fl.results.report.audit import coins_table, views_table
from lightning_fl.results.report.audit_words import headline, spread
from lightning_fl.results.report.report import write_report


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
        "images": 1,
        "identified": 0.75,
        "luck": 0.03,
        "correlation": 0.0123,
        "chance": 0.02,
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
    "protected": True,
    "sees": False,
    "trials": 1000,
    "accuracy": 0.512,
    "interval": [0.481, 0.543],
    "words": "A coin.",
}


RUN = {"words": "Nobody reads.", "hides": True, "views": ["coordinator"]}
WEAK = CONTROL | {"verdict": "shows something", "psnr": 12.0}


def test_the_headline_says_that_the_attack_works_and_nothing_leaks() -> None:
    assert headline([CONTROL, HIDDEN, FLOOR], [COIN], RUN) == (
        "Nobody reads. From an update in the clear the image comes back (31.2 dB). Behind "
        "encryption and pairwise masks, of 1 views none is better than guessing and of 1 tests "
        "which of two updates it was, none was passed."
    )


def test_a_run_without_protection_is_not_called_protected() -> None:
    said = headline([CONTROL, HIDDEN], [], RUN | {"words": "All is read.", "hides": False})
    assert said.startswith("All is read. ")
    assert said.endswith("This run does without that protection.")


def test_the_headline_names_a_leak() -> None:
    leak = HIDDEN | {"verdict": "shows something"}
    said = headline([CONTROL, leak, FLOOR], [], RUN)
    assert said.endswith("should be protected show something: Party <coordinator>.")


def test_who_tells_two_updates_apart_is_a_leak() -> None:
    told = COIN | {"sees": True}
    said = headline([CONTROL, HIDDEN, FLOOR], [told], RUN)
    assert said.endswith("show something: Coordinator (tells two updates apart).")
    assert "should be protected" not in headline([CONTROL], [told | {"protected": False}], RUN)


def test_without_trials_the_headline_is_about_the_distinguishing_test() -> None:
    assert headline([], [COIN], RUN) == (
        "Nobody reads. Behind encryption and pairwise masks, of 1 tests which of two updates it "
        "was, none was passed."
    )
    assert "show something: Coordinator" in headline([], [COIN | {"sees": True}], RUN)


def test_an_attack_that_does_not_work_proves_nothing() -> None:
    said = headline([WEAK, HIDDEN], [COIN], RUN)
    assert "too weak for this task" in said
    assert said.endswith("does not show that anything is safe.")


def test_a_leak_is_named_even_where_the_attack_is_too_weak() -> None:
    said = headline([WEAK, HIDDEN | {"verdict": "shows something"}], [], RUN)
    assert said.endswith("should be protected show something: Party <coordinator>.")


def test_the_table_has_a_row_for_each_view() -> None:
    html = views_table([CONTROL, HIDDEN], SETTINGS, ["coordinator"])
    assert html.count("<tr>") == 3
    assert html.count("<td>yes</td>") == 1
    words = (
        *("31.2 ± 1.2", "10.5", "0.50 ± 0.12", "<td>100</td>", "of 32 training images", "75 %"),
        *("75 (3)", "0.012 (0.020)"),
    )
    for word in words:
        assert word in html.replace("\N{NO-BREAK SPACE}", " ")
    assert "Party &lt;plain&gt;: some bytes" in html


def test_one_trial_has_no_spread_and_one_seed_is_said_to_be_shared() -> None:
    alone = CONTROL | {"seeds": 1, "trials": 1, "psnr_sd": None, "ssim_sd": None}
    html = views_table([alone], SETTINGS, [])
    assert "<td>31.2</td>" in html
    assert "One trial, so there is no spread." in html
    assert "the same first weights" in spread(CONTROL | {"seeds": 1})
    assert "2 for each of 2 first weights" in spread(CONTROL)


def test_the_coins_have_their_interval() -> None:
    html = coins_table([COIN])
    for words in ("1000", "51.2", "48.1 to 54.3", "A coin."):
        assert words in html
    assert coins_table([]) == ""


@pytest.mark.parametrize("pictures", [False, True])
def test_the_report_has_a_section_of_it(make_run: Callable[..., Path], pictures: bool) -> None:
    run = make_run()
    record = {
        "run": RUN,
        "settings": SETTINGS,
        "views": [CONTROL, HIDDEN],
        "distinguishing": [COIN],
    }
    (run / "audit.json").write_text(json.dumps(record))
    if pictures:
        images = np.random.default_rng(0).random((2, 1, 16, 16), dtype=np.float32)
        kinds = ("plain/truth", "plain/found", "coordinator/truth", "coordinator/found")
        save_file(dict.fromkeys(kinds, images), run / "audit.safetensors")
    html = write_report(run).read_text()
    assert "<h2>Privacy audit</h2>" in html
    assert html.count("reconstruction</div>") == (4 if pictures else 0)
    assert ("True training images" in html) == pictures


def test_pictures_of_several_images_say_which_is_shown(make_run: Callable[..., Path]) -> None:
    run = make_run()
    mean = view("mean_8", 12.0, "shows something", protected=False) | {"images": 8}
    record = {"run": RUN, "settings": SETTINGS, "views": [CONTROL, mean], "distinguishing": []}
    (run / "audit.json").write_text(json.dumps(record))
    images = np.zeros((1, 1, 16, 16), dtype=np.float32)
    names = ("plain/truth", "plain/found", "mean_8/truth", "mean_8/found")
    save_file(dict.fromkeys(names, images), run / "audit.safetensors")
    html = write_report(run).read_text()
    assert html.count("reconstruction, first of 8</div>") == 1
    assert html.count("reconstruction</div>") == 1


def test_an_audit_of_an_older_version_is_not_judged(make_run: Callable[..., Path]) -> None:
    run = make_run()
    record = {"settings": SETTINGS, "views": [CONTROL], "distinguishing": []}
    (run / "audit.json").write_text(json.dumps(record))
    assert "made by an older version" in write_report(run).read_text()


def test_there_is_no_section_without_an_audit(make_run: Callable[..., Path]) -> None:
    assert "Privacy audit" not in write_report(make_run()).read_text()
