"""The report's tables of what sites chose and of new hospitals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fl.coordinator.recorder import new_hospital_rows
from lightning_fl.results.report.rendering import render
from lightning_fl.results.report.report import choice_values, new_hospital_values
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.tables import read_metrics
from lightning_fl.wire.records import MetricRow
from tests.lightning_fl.results.page_text import text_of


def choices(path: Path) -> str:
    run = RunFolder(path)
    return render("choices.html", run=run, **choice_values(run.results["personalisation"]))


def new_hospital(path: Path) -> str:
    run = RunFolder(path)
    values = new_hospital_values(run.results["new_hospital"], run.metric)
    return render("new_hospital.html", run=run, new_hospital=values)


def changed(run: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    file = run / "results.json"
    results = json.loads(file.read_text())
    change(results)
    file.write_text(json.dumps(results))
    return run


def test_every_candidates_score_is_there_and_what_is_used_is_bold(
    make_run: Callable[..., Path],
) -> None:
    html = choices(make_run(gallery=False))
    cells = "<td><b>50.0</b></td><td>50.0</td><td>50.0</td><td>50.0</td>"
    assert f"<tr><td>none</td>{cells}</tr>" in html
    assert "<td>finetune@20</td><td>–</td>" in html  # noqa: RUF001  the dash of a NaN
    assert "<td>finetune@10</td><td>+2.0</td><td>40</td>" not in html
    assert "<td>10</td><td>+2.0</td><td>40</td><td>validation</td><td>" in html


def test_scores_of_candidates_are_called_by_the_metric_that_decided(
    make_run: Callable[..., Path],
) -> None:
    run = make_run(gallery=False)
    assert "Validation Dice in percent of every candidate" in text_of(choices(run))
    config = run / "config.yaml"
    config.write_text(config.read_text() + "evaluation: {metric: iou}\n")
    assert "Validation IoU in percent of every candidate" in text_of(choices(run))
    assert {row.metric for row in read_metrics(run / "metrics.csv")} >= {"dice"}
    assert RunFolder(run).metric == "dice"


def test_sites_without_a_candidate_of_others_have_a_dash(make_run: Callable[..., Path]) -> None:
    def add(results: dict[str, Any]) -> None:
        results["personalisation"]["Boston"]["candidates"]["own"] = 0.25

    html = choices(changed(make_run(gallery=False), add))
    dash = "<td>–</td>"  # noqa: RUF001
    assert f"<tr><td>own</td>{dash}<td>25.0</td>{dash}{dash}</tr>" in html


def test_the_members_of_chosen_ensembles_are_named(make_run: Callable[..., Path]) -> None:
    def add(results: dict[str, Any]) -> None:
        members = {"Aachen": ["none", "<i>"], "Boston": ["mirrored"], "Dakar": ["a", "b", "c"]}
        for site, names in members.items():
            results["personalisation"][site]["members"] = names

    text = text_of(choices(changed(make_run(gallery=False), add)))
    averaged = "average the outputs of Aachen: none and <i>; Dakar: a and b and c."
    assert averaged in text


def test_a_run_that_is_not_finished_has_no_choices(make_run: Callable[..., Path]) -> None:
    run = changed(make_run(gallery=False), lambda results: results.update(personalisation={}))
    assert choices(run).strip() == ""


def test_a_new_hospital_has_a_curve_and_a_table(make_run: Callable[..., Path]) -> None:
    html = new_hospital(make_run(gallery=False, unseen=("Espoo",)))
    assert "<svg" in html
    heads = "<th>site</th><th>as it came</th><th>1 patient</th><th>4 patients</th>"
    assert heads in html
    assert "<td>Espoo</td><td>40.0</td><td>50.0</td><td>58.0</td>" in html
    assert new_hospital(make_run("other", gallery=False)).strip() == ""


def test_rows_of_a_new_hospital_leave_out_the_model_as_it_came() -> None:
    curves = {"E": {"0": {"dice": 0.1}, "2": {"dice": 0.3}}}
    assert new_hospital_rows(curves, {"E": 7}) == [
        MetricRow(7, "E", "personal@2", "test", "dice", 0.3)
    ]
