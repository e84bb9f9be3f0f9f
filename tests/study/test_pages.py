"""Tables and pages from made rows."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import pandas as pd
import pytest

from study.collect import missing_of
from study.comparison import MethodSummary, count_collapses, summarise
from study.conditions import Condition
from study.dot_plot import BETTER, UNCLEAR, WORSE, colour_of, dot_plot, ticks_for
from study.rows import Cost, Missing, Score, records_of
from study.statistics import Interval
from study.study_file import Method, Study
from study.text_tables import (
    differences_of,
    how_to_read,
    interval_text,
    method_table,
    site_table,
)

STUDY = Study(
    base="base.yaml",
    runs={"fedavg": {}, "local": {}},
    methods={
        "FedAvg": Method("fedavg", "global"),
        "FedAvg + FT": Method("fedavg", "personal"),
        "Local": Method("local", "local"),
    },
    reference="FedAvg",
    floor=["Local"],
)
WORLD = Condition("w", {}, ("fedavg", "local"), (0, 1))


def rows(method: str, values: dict[str, tuple[float, ...]]) -> list[Score]:
    run, model = STUDY.methods[method].run, STUDY.methods[method].model
    return [
        Score("w", method, run, model, seed, site, split, metric, value + other)
        for site, by_seed in values.items()
        for seed, value in enumerate(by_seed)
        for split, metric, other in (("test", "dice", 0), ("val", "dice", 7), ("test", "loss", 9))
    ]


RECORDS = records_of(
    [
        *rows("FedAvg", {"A": (0.5, 0.3), "mean": (0.5, 0.3), "worst": (0.4, 0.2)}),
        *rows("FedAvg + FT", {"A": (0.6, 0.1), "mean": (0.6, 0.5), "worst": (0.5, 0.1)}),
        *rows("Local", {"A": (0.4, 0.4), "B": (0.2, math.nan), "mean": (0.4, 0.4)}),
    ],
    [
        Cost("w", "fedavg", 0, 100, 20, 10, 1.0, 0),
        Cost("w", "fedavg", 1, 100, 40, 30, 3.0, 0),
        Cost("w", "local", 0, 110, 0, 0, 1.0, 0),
    ],
    [Missing("w", "local", 1, "killed")],
)


def summary() -> dict[str, MethodSummary]:
    return {method.name: method for method in summarise(STUDY, WORLD, RECORDS).methods}


def test_differences_are_paired_and_costs_are_those_of_a_run() -> None:
    tuned = summary()["FedAvg + FT"]
    assert tuned.scores["mean"].mean() == pytest.approx(0.55)
    assert tuned.scores["worst"].mean() == pytest.approx(0.3)
    assert tuned.difference.mean == pytest.approx(0.15)
    assert tuned.worst_difference.mean == pytest.approx(0.0)
    assert (len(tuned.scores), tuned.difference.n) == (2, 2)
    assert (tuned.bytes, tuned.seconds) == (20, 2.0)


def test_gradients_of_personalisation_count_for_personal_models_alone() -> None:
    methods = summary()
    assert methods["FedAvg"].gradients == 100
    assert methods["FedAvg + FT"].gradients == 130
    table = method_table(STUDY, summarise(STUDY, WORLD, RECORDS))
    assert "FedAvg made 100 and FedAvg + FT 130" in table.caption


@pytest.mark.parametrize("model", ["global_bn", "mirror@0", "averaged", "own", "batch_norm"])
def test_models_that_were_not_fitted_have_no_gradients_of_personalisation(model: str) -> None:
    study = replace(STUDY, methods=STUDY.methods | {"FedAvg": Method("fedavg", model)})
    scores = RECORDS.scores[RECORDS.scores.method == "FedAvg"].assign(model=model)
    [method] = summarise(study, WORLD, RECORDS._replace(scores=scores)).methods
    assert method.gradients == 100


def test_the_reader_is_told_whose_gradients_of_personalisation_count() -> None:
    assert "whole list of candidates of the run, unseen hospitals included" in how_to_read(STUDY)


def test_scores_of_another_run_or_model_by_the_same_name_stay_out() -> None:
    for other in (Method("fedavg", "finetuned"), Method("local", "personal")):
        study = replace(STUDY, methods=STUDY.methods | {"FedAvg + FT": other})
        names = [method.name for method in summarise(study, WORLD, RECORDS).methods]
        assert names == ["FedAvg", "Local"]


def test_losses_of_sites_are_those_of_the_runs_and_seeds_shown() -> None:
    records = RECORDS._replace(costs=RECORDS.costs.assign(losses=3))
    assert summarise(STUDY, WORLD, records).losses == {"fedavg": 6, "local": 3}
    narrow = Condition("w", {}, WORLD.runs, (1,))
    assert summarise(STUDY, narrow, records).losses == {"fedavg": 3}
    assert summarise(STUDY, WORLD, RECORDS).losses == {}


def test_other_seeds_splits_and_metrics_stay_out() -> None:
    narrow = Condition("w", {}, WORLD.runs, (0,))
    for scores in (RECORDS.scores, RECORDS.scores[::-1]):  # whichever comes last
        method = summarise(STUDY, narrow, RECORDS._replace(scores=scores)).methods[0]
        assert method.scores["mean"].tolist() == [0.5]
    assert summarise(STUDY, Condition("v", {}, WORLD.runs, (0,)), RECORDS).methods == ()


def test_a_collapse_is_below_half_of_a_floor() -> None:
    scores = pd.DataFrame({"A": {0: 0.19, 1: 0.2, 2: 0.0}, "C": {0: 0.0}, "mean": {0: 0.0}})
    floors = [pd.DataFrame({"A": {0: 0.4, 1: 0.4}, "mean": {0: 1.0}})]
    assert count_collapses(scores, floors, "dice") == (1, 2)
    assert count_collapses(scores, [], "dice") == (0, 0)
    assert count_collapses(scores, floors, "loss") == (0, 0)
    assert summary()["FedAvg + FT"].collapses == 1
    assert summary()["Local"].compared == 0


def test_tables_say_what_the_numbers_are() -> None:
    whole = summarise(STUDY, WORLD, RECORDS)
    table = method_table(STUDY, whole)
    by_name = {row[0]: row for row in table.rows}
    assert by_name["FedAvg"][1:5] == ["40.0 ± 14.1", "30.0", "0", "0"]
    assert by_name["FedAvg + FT"][3].startswith("+15.0 [-48.5, +78.5] n=2")
    assert by_name["FedAvg + FT"][5] == "1 of 2"
    assert by_name["Local"][4] == "–"  # noqa: RUF001  the mark of an empty cell
    assert site_table(STUDY, whole).rows[2] == ["Local", "40.0 ± 0.0", "20.0"]
    assert table.markdown().splitlines()[1] == "| --- |" + " --: |" * 8
    differences = differences_of(STUDY, [whole])
    assert tuple(differences.loc["FedAvg + FT"]) == pytest.approx((0.15,))


def test_missing_are_the_runs_without_a_cost_and_those_with_a_reason() -> None:
    wider = Condition("w", {}, ("fedavg", "local"), (0, 1, 2))
    assert missing_of(STUDY, [wider], RECORDS) == [
        Missing("w", "fedavg", 2, "not run yet"),
        Missing("w", "local", 1, "killed"),
        Missing("w", "local", 2, "not run yet"),
    ]


def test_a_finished_run_without_the_scores_of_a_method_is_missing() -> None:
    study = replace(STUDY, methods=STUDY.methods | {"new": Method("fedavg", "personal")})
    reported = Missing("w", "fedavg", 0, "new: the run has no model 'personal'")
    narrow = Condition("w", {}, ("fedavg",), (0, 1))
    records = RECORDS._replace(missing=records_of([], [], [reported]).missing)
    missing = missing_of(study, [narrow], records)
    assert missing == [reported, Missing("w", "fedavg", 1, "new: not in scores.csv")]
    absent = Missing("w", "fedavg", 0, "FedAvg: not in scores.csv")
    unmeasured = missing_of(replace(STUDY, metric="accuracy"), [narrow], RECORDS)
    assert absent in unmeasured


def test_an_interval_says_its_n_and_a_loss_has_no_percent() -> None:
    assert interval_text(Interval(0.01, -0.02, 0.04, 3), "dice") == "+1.0 [-2.0, +4.0] n=3"
    assert interval_text(Interval(0.01, math.nan, math.nan, 1), "loss") == "+0.010 n=1"


def test_a_plot_has_a_dot_for_each_method_with_a_value() -> None:
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    single = Interval(0.03, math.nan, math.nan, 1)
    svg = dot_plot({"A <b>": Interval(0.1, 0.05, 0.15, 3), "B": nothing, "C": single}, "dice")
    tree = ElementTree.fromstring(svg)
    assert len(list(tree.iter("circle"))) == 2
    assert {"A <b>", "C", "0"} <= {element.text for element in tree.iter("text")}
    assert "nan" not in svg
    assert dot_plot({"B": nothing}, "dice") == ""


def test_the_longest_name_has_room_before_the_axis() -> None:
    name = "Per-FedAvg with its own BatchNorm + finetune[average]@100, mirrored"
    tree = ElementTree.fromstring(dot_plot({name: Interval(0.1, 0.05, 0.15, 3)}, "dice"))
    [label] = [element for element in tree.iter("text") if element.text == name]
    assert float(label.get("x", "0")) > 7 * len(name)
    width = float(tree.get("viewBox", "").split()[2])
    for line in tree.iter("line"):
        assert float(label.get("x", "0")) < float(line.get("x1", "0")) <= width


def test_colours_follow_what_is_better() -> None:
    above, below = Interval(0.1, 0.05, 0.15, 3), Interval(-0.1, -0.15, -0.05, 3)
    assert colour_of(above, "dice") == colour_of(below, "loss") == BETTER
    assert colour_of(below, "dice") == colour_of(above, "loss") == WORSE
    assert colour_of(Interval(0.1, -0.1, 0.3, 3), "dice") == UNCLEAR
    assert colour_of(Interval(0.1, math.nan, math.nan, 1), "dice") == UNCLEAR


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 14.9), (-48.5, 78.5), (-0.003, 0)])
def test_ticks_are_few_and_round_and_hold_zero(low: float, high: float) -> None:
    ticks = ticks_for(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert ticks[0] < ticks[-1]
    assert 0 in ticks
    assert len(ticks) <= 9
