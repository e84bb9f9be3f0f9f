"""Areas that tell a value lie where matplotlib has drawn it."""

import math
import re
from xml.etree import ElementTree

import pytest

from lightning_fl.results.report.plots import bars_svg, curves_svg, patients_svg, training_svg
from lightning_fl.results.scores import ScoreRow, ScoreTable

CURVES = {"A": {1: 0.2, 2: math.nan, 3: 0.4}, "B <b>": {1: 0.1}}


def areas(svg: str) -> dict[str, dict[str, float]]:
    rectangles = ElementTree.fromstring(svg).iter("rect")
    return {
        rectangle[0].text or "": {name: float(value) for name, value in rectangle.attrib.items()}
        for rectangle in rectangles
        if len(rectangle) and rectangle[0].tag == "title"
    }


def test_each_point_of_a_curve_tells_its_value() -> None:
    assert areas(curves_svg(CURVES, metric="dice", best_round=1)).keys() == {
        *("A, round 1: 20.0 %", "A, round 3: 40.0 %", "B <b>, round 1: 10.0 %"),
        *("mean, round 1: 15.0 %", "mean, round 3: 40.0 %"),
    }
    assert "C, patients used: 4: 0.500" in areas(patients_svg({"C": {4: 0.5}}, metric="loss"))


def test_each_point_of_each_panel_of_training_tells_its_value() -> None:
    curves = {"loss": {"A": {1: 0.25, 2: math.nan}}, "lr": {"A": {2: 0.001}}}
    assert areas(training_svg(curves)).keys() == {
        *("A, round 1, training loss: 0.25", "A, round 2, learning rate: 0.001")
    }


def test_an_area_is_around_its_point() -> None:
    svg = curves_svg({"A": {1: 0.2, 2: 0.4}}, metric="dice", best_round=None)
    [drawn] = set(re.findall(r'd="M ([\d.]+) ([\d.]+) \nL ([\d.]+) ([\d.]+) \n" clip', svg)[-1:])
    shown = areas(svg)
    for place, text in ((0, "A, round 1: 20.0 %"), (2, "A, round 2: 40.0 %")):
        area = shown[text]
        assert area["x"] + area["width"] / 2 == pytest.approx(float(drawn[place]), abs=0.2)
        assert area["y"] + area["height"] / 2 == pytest.approx(float(drawn[place + 1]), abs=0.2)


def test_each_bar_tells_its_value_and_a_missing_one_nothing() -> None:
    rows = tuple(ScoreRow(site, {"global": 0.5, "personal": math.nan}) for site in "AB")
    table = ScoreTable("dice", ("global", "personal"), rows, (rows[0], rows[1]))
    shown = areas(bars_svg(table))
    assert shown.keys() == {"A, global: 50.0 %", "B, global: 50.0 %"}
    heights = [area["height"] for area in shown.values()]
    assert heights == [heights[0]] * 2
    assert heights[0] > 50


def test_of_very_many_points_only_the_mean_tells_its_values() -> None:
    curves = {f"S{site}": dict.fromkeys(range(100), 0.5) for site in range(40)}
    shown = areas(curves_svg(curves, metric="dice", best_round=None))
    assert len(shown) == 100
    assert all(text.startswith("mean, round") for text in shown)
