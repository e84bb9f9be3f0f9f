import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lightning_fl.results.report.audit_section import audit_values
from lightning_fl.results.report.rendering import render
from lightning_fl.results.report.report import write_report
from tests.lightning_fl.results.page_text import text_of

Records = list[dict[str, Any]]


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


def write_audit(run: Path, views: Records, outcomes: Records, **facts: Any) -> None:
    record = {"run": RUN | facts, "settings": SETTINGS, "views": views}
    record |= {"distinguishing": outcomes, "membership": []}
    (run / "audit.json").write_text(json.dumps(record))


@pytest.fixture
def section(tmp_path: Path) -> Callable[..., str]:
    """The section on an audit with these views and outcomes, in a run of which this is so."""

    def render_section(views: Records, outcomes: Records, **facts: Any) -> str:
        write_audit(tmp_path, views, outcomes, **facts)
        return render("privacy_audit.html", audit=audit_values(tmp_path))

    return render_section


@pytest.fixture
def headline(section: Callable[..., str]) -> Callable[..., str]:
    """The section's first paragraph."""

    def first_paragraph(views: Records, outcomes: Records, **facts: Any) -> str:
        html = section(views, outcomes, **facts)
        return text_of(html[html.index("<p>") : html.index("</p>")])

    return first_paragraph


def test_the_headline_says_that_the_attack_works_and_nothing_leaks(
    headline: Callable[..., str],
) -> None:
    assert headline([CONTROL, HIDDEN, FLOOR], [COIN]) == (
        "Nobody reads. From an update in the clear the image comes back (31.2 dB). Behind "
        "encryption and pairwise masks, of 1 views none is better than guessing and of 1 tests "
        "which of two updates it was, none was passed."
    )


def test_a_run_without_protection_is_not_called_protected(headline: Callable[..., str]) -> None:
    text = headline([CONTROL, HIDDEN], [], words="All is read.", hides=False)
    assert text.startswith("All is read. ")
    assert text.endswith("This run does without that protection.")


def test_the_headline_names_a_leak(headline: Callable[..., str]) -> None:
    leak = HIDDEN | {"verdict": "shows something"}
    text = headline([CONTROL, leak, FLOOR], [])
    assert text.endswith("should be protected show something: Party <coordinator>.")


def test_who_tells_two_updates_apart_is_a_leak(headline: Callable[..., str]) -> None:
    passed = COIN | {"sees": True}
    text = headline([CONTROL, HIDDEN, FLOOR], [passed])
    assert text.endswith("show something: Coordinator (tells two updates apart).")
    assert "should be protected" not in headline([CONTROL], [passed | {"protected": False}])


def test_without_trials_the_headline_is_about_the_distinguishing_test(
    headline: Callable[..., str],
) -> None:
    assert headline([], [COIN]) == (
        "Nobody reads. Behind encryption and pairwise masks, of 1 tests which of two updates it "
        "was, none was passed."
    )
    assert "show something: Coordinator" in headline([], [COIN | {"sees": True}])


def test_an_attack_that_does_not_work_proves_nothing(headline: Callable[..., str]) -> None:
    text = headline([WEAK, HIDDEN], [COIN])
    assert "too weak for this task" in text
    assert text.endswith("does not show that anything is safe.")


def test_a_leak_is_named_even_where_the_attack_is_too_weak(headline: Callable[..., str]) -> None:
    text = headline([WEAK, HIDDEN | {"verdict": "shows something"}], [])
    assert text.endswith("should be protected show something: Party <coordinator>.")


def test_the_table_has_a_row_for_each_view(section: Callable[..., str]) -> None:
    html = section([CONTROL, HIDDEN], [])
    assert html.count("<tr>") == 3
    assert html.count("<td>yes</td>") == 1
    assert "<td>100</td>" in html
    assert "Party &lt;plain&gt;: some bytes" in html
    words = (
        *("31.2 ± 1.2", "10.5", "0.50 ± 0.12", "of 32 training images", "75 %"),
        *("75 (3)", "0.012 (0.020)"),
    )
    text = text_of(html)
    assert all(word in text for word in words)


def test_one_trial_has_no_spread_and_one_seed_is_said_to_be_shared(
    section: Callable[..., str],
) -> None:
    alone = CONTROL | {"seeds": 1, "trials": 1, "psnr_sd": None, "ssim_sd": None}
    html = section([alone], [])
    assert "<td>31.2</td>" in html
    assert "One trial, so there is no spread." in text_of(html)
    assert "the same first weights" in text_of(section([CONTROL | {"seeds": 1}], []))
    assert "2 for each of 2 first weights" in text_of(section([CONTROL], []))


def test_the_coins_have_their_interval(section: Callable[..., str]) -> None:
    html = section([CONTROL], [COIN])
    for words in ("1000", "51.2", "48.1 to 54.3", "A coin."):
        assert f"<td>{words}</td>" in html
    assert "Which of two updates?" not in section([CONTROL], [])


@pytest.mark.parametrize("pictures", [False, True])
def test_the_report_has_a_section_of_it(make_run: Callable[..., Path], pictures: bool) -> None:
    run = make_run()
    write_audit(run, [CONTROL, HIDDEN], [COIN])
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
    write_audit(run, [CONTROL, mean], [])
    images = np.zeros((1, 1, 16, 16), dtype=np.float32)
    names = ("plain/truth", "plain/found", "mean_8/truth", "mean_8/found")
    save_file(dict.fromkeys(names, images), run / "audit.safetensors")
    html = write_report(run).read_text()
    assert html.count("reconstruction, first of 8</div>") == 1
    assert html.count("reconstruction</div>") == 1


def test_there_is_no_section_without_an_audit(make_run: Callable[..., Path]) -> None:
    assert "Privacy audit" not in write_report(make_run()).read_text()
