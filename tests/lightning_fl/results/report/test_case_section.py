"""The report's table of the test patients of each site."""

import json
from typing import Any

from lightning_fl.results.report.case_section import case_values
from lightning_fl.results.report.rendering import render
from tests.lightning_fl.results.page_text import text_of


def site(patients: int | None, **more: Any) -> dict[str, Any]:
    """What results.json says of a site."""
    counts = {} if patients is None else {"patients": patients, "images": 8}
    dice = {"mean": 0.613, "sd": 0.082, "median": 0.62, "low": 0.551, "high": 0.66} | counts
    distance = {"mean": 8.24, "sd": None, "median": 8.24, "low": None, "high": None} | counts
    return {"personal": {"test": {"dice": dice | more, "hd95_px": distance}}}


def shown(**cases: Any) -> str:
    results = json.loads(json.dumps({"cases": cases}))
    return text_of(render("cases.html", cases=case_values(results, "dice")))


def test_each_model_has_mean_spread_interval_and_median() -> None:
    text = shown(A=site(6))
    assert "site model patients images Dice, % interval median HD95, px interval median" in text
    assert "A personal 6 8 61.3 ± 8.2 55.1 to 66.0 62.0 8.2 – 8.2" in text  # noqa: RUF001
    assert "*" not in text


def test_a_site_with_few_test_patients_is_marked_and_the_mark_is_explained() -> None:
    text = shown(A=site(6), B=site(4))
    assert "B * personal 4 8" in text
    assert "A personal 6 8" in text
    assert "* fewer than 5 test patients: there the numbers hang on single patients" in text


def test_hidden_counts_are_dashes() -> None:
    text = shown(A=site(None, sd=None, low=None, high=None, median=None))
    assert "A personal – – 61.3 – – " in text  # noqa: RUF001


def test_a_run_that_knows_no_patients_has_no_section() -> None:
    assert case_values({}, "auroc") == {}
    assert render("cases.html", cases={}).strip() == ""


def test_names_from_a_site_are_escaped() -> None:
    html = render("cases.html", cases=case_values({"cases": {"<b>": site(6)}}, "dice"))
    assert "&lt;b&gt;" in html
