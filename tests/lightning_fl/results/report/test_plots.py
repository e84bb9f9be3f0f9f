import math
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from lightning_fl.results.report.plots import (
    bars_svg,
    curves_svg,
    mean_curve,
    patients_svg,
    training_svg,
)
from lightning_fl.results.scores import ScoreRow, ScoreTable
from tests.waiting import PATIENCE


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_curves_name_few_sites_and_count_many() -> None:
    few = curves_svg({"A": {1: 0.2, 2: 0.4}, "B $^1": {1: 0.1}}, metric="dice", best_round=2)
    assert {"A", "B $^1", "mean", "best round", "validation Dice, %"} <= set(texts(few))
    many = curves_svg({str(n): {1: 0.2} for n in range(64)}, metric="loss", best_round=None)
    assert {"each of 64 sites", "mean", "validation loss"} <= set(texts(many))
    assert "best round" not in texts(many)


def test_training_has_a_panel_for_each_curve_and_a_line_for_each_site() -> None:
    curves = {name: {"A": {1: 0.2, 2: 0.4}, "B $^1": {2: 0.1}} for name in ("loss", "lr")}
    shown = texts(training_svg(curves))
    assert {"training loss", "gradient norm", "learning rate", "samples per second"} <= set(shown)
    assert shown.count("A") == shown.count("B $^1") == 1
    many = {"loss": {str(n): {1: 0.2} for n in range(64)}}
    assert "63" not in texts(training_svg(many))


def test_mean_curve_is_over_the_sites_with_a_score() -> None:
    curves = {"A": {1: 0.2, 2: math.nan, 3: math.nan}, "B": {1: 0.4, 2: 0.6}}
    assert mean_curve(curves) == {1: pytest.approx(0.3), 2: 0.6}


def test_patients_curve_names_every_hospital() -> None:
    svg = patients_svg({"E": {0: 0.2, 4: 0.5}, "a $^1": {0: 0.1, 1: math.nan}}, metric="dice")
    assert {"E", "a $^1", "test Dice, %"} <= set(texts(svg))
    assert "patients of the hospital used to personalise" in texts(svg)


@pytest.mark.parametrize("sites", [2, 64])
def test_bars_show_every_site_and_the_mean(sites: int) -> None:
    names = [f"site $^{number}" for number in range(sites)]
    rows = tuple(ScoreRow(name, {"global": 0.5, "personal": math.nan}) for name in names)
    mean, worst = (ScoreRow(name, {"global": 0.5, "personal": 1}) for name in ("mean", "worst"))
    table = ScoreTable("dice", ("global", "personal"), rows, (mean, worst))
    shown = texts(bars_svg(table))
    assert {*names, "mean", "global", "personal"} <= set(shown)
    assert ("50.0" in shown) == (sites == 2)


def test_svg_has_the_ink_of_the_page_and_no_address() -> None:
    svg = curves_svg({"A": {1: 0.2}}, metric="dice", best_round=1)
    assert "currentColor" in svg
    assert "http" not in svg
    assert "#010203" not in svg


def test_same_numbers_give_the_same_picture() -> None:
    first, second = (curves_svg({"A": {1: 0.2}}, metric="dice", best_round=1) for _ in range(2))
    assert first == second


def test_pyplot_is_not_used() -> None:
    code = (
        "import sys; from lightning_fl.results.report.plots import curves_svg;"
        "curves_svg({'A': {1: 0.2}}, metric='dice', best_round=1);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
