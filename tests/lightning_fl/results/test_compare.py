"""The page that compares runs: which numbers it shows, and which folders it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.results.compare.__main__ import main
from lightning_fl.results.formats import gain_text, score_text
from lightning_fl.results.summary import read_results
from tests.lightning_fl.results.page_text import cells, text_of

MakeRun = Callable[..., Path]


def compare(tmp_path: Path, *runs: Path) -> str:
    page = tmp_path / "page.html"
    assert main([*map(str, runs), "--output", str(page)]) == 0
    return page.read_text(encoding="utf-8")


def change(run: Path, change: Callable[[Any], None]) -> None:
    """Alter results.json."""
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))


def refusal(capsys: pytest.CaptureFixture[str], *runs: Path) -> str:
    assert main([str(run) for run in runs]) == 2
    return capsys.readouterr().err


def test_scores_stand_side_by_side_with_their_differences(
    tmp_path: Path, make_run: MakeRun
) -> None:
    runs = [make_run(name, gallery=False, rounds=rounds) for name, rounds in (("a", 4), ("b", 5))]
    html = compare(tmp_path, *runs)
    first, second = (read_results(run / "results.json") for run in runs)
    for model in ("personal", "global"):
        for name in ("Aachen", "mean", "worst"):
            before, after = (
                (run[name] if name in run else run["sites"][name])[model]["test"]["dice"]
                for run in (first, second)
            )
            best = max(before, after)
            shown = [score_text(value, "dice") for value in (before, after)]
            bold = [f"<b>{t}</b>" if t == score_text(best, "dice") else t for t in shown]
            assert cells(name, *bold, gain_text(after - before, "dice")) in html
    assert "b minus a" in html
    assert "The models are personal of a, personal of b." in text_of(html)
    assert "have not scored the same sites" not in html


def test_only_settings_that_differ_are_listed(tmp_path: Path, make_run: MakeRun) -> None:
    a, b = make_run("a", gallery=False), make_run("b", gallery=False, aggregator="Plain")
    for run in (a, b):
        with (run / "config.yaml").open("a") as config:
            config.write(f"output: {run}\n")
    with (b / "config.yaml").open("a") as config:
        config.write("privacy: {clip: 1.0}\n")
    html = compare(tmp_path, a, b)
    ring, plain = (f"lightning_fl.aggregation.{name}" for name in ("CyclicCKKS", "Plain"))
    assert cells("aggregator.class_path", ring, plain) in html
    assert cells("privacy.clip", "–", "1.0") in html  # noqa: RUF001  an en dash
    assert "algorithm.init_args.alpha" not in html
    assert "<td>output</td>" not in html


def test_equal_runs_differ_in_no_setting(tmp_path: Path, make_run: MakeRun) -> None:
    html = compare(tmp_path, make_run("a", gallery=False), make_run("b", gallery=False))
    assert "All settings of config.yaml are the same." in html


def test_costs_are_those_of_results_json(tmp_path: Path, make_run: MakeRun) -> None:
    a, b = (
        make_run("a", gallery=False),
        make_run("b", gallery=False, aggregator="Plain", dropped=True),
    )
    change(a, lambda r: r["costs"].update(gradients={"train": 1200, "personalise": 7}))
    change(a, lambda r: r["costs"]["seconds"].update({"train": 60.0}))
    change(a, lambda r: r["costs"]["seconds"].update({"ring_pass": 2.0, "ring_pass: encrypt": 3.5}))
    change(a, lambda r: r["costs"]["seconds"].pop("ring_pass: encode"))
    change(b, lambda r: r["costs"]["seconds"].update({"train": 5.0}))
    html = compare(tmp_path, a, b)
    assert "<td>gradients of training</td><td>1,200</td>" in html
    assert cells("time of train", "1 min 0 s", "5.0 s") in html
    assert cells("time of ring_pass", "5.5 s", "–") in html  # noqa: RUF001  an en dash
    assert cells("sites lost in a round", "0", "1") in html


def test_runs_of_other_sites_say_so_and_leave_dashes(tmp_path: Path, make_run: MakeRun) -> None:
    a = make_run("a", gallery=False, sites=("Aachen", "Boston"), unseen=("Espoo",))
    b = make_run("b", gallery=False, sites=("Aachen", "Espoo"))
    html = compare(tmp_path, a, b)
    assert "The runs have not scored the same sites" in html
    assert "<td>Espoo</td>" in html  # it trained in one of them
    assert "<td>Boston</td>" in html


def test_runs_of_one_name_are_named_by_their_paths(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run(f"{folder}/0", gallery=False) for folder in ("a", "b")]
    html = compare(tmp_path, *runs)
    assert f"{runs[1]} minus {runs[0]}" in html


def test_names_are_escaped(tmp_path: Path, make_run: MakeRun) -> None:
    a, b = make_run("<script>", gallery=False), make_run("$b^1$", gallery=False)
    html = compare(tmp_path, a, b)
    assert "Chengdu, $b^1$: 47.6 %" in html  # no mathematics in the plot's texts
    assert ">$b^1$</text>" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_what_is_no_finished_run_is_refused_by_name(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make_run("good", gallery=False)
    assert f"{tmp_path / 'none'}" in refusal(capsys, good, tmp_path / "none")
    stopped = make_run("stopped", gallery=False, finished=False)
    message = refusal(capsys, good, stopped)
    assert f"The run in {stopped} is not finished" in message
    assert f"--resume {stopped}" in message
    assert "at least two different runs" in refusal(capsys, good, good)
    assert "at least two different runs" in refusal(capsys, good)


def test_runs_of_different_metrics_are_refused_or_compared_in_what_they_share(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a", gallery=False), make_run("b", gallery=False)
    text = (b / "results.json").read_text()
    (b / "results.json").write_text(text.replace('"dice"', '"auroc"'))
    assert "Test IoU of each site" in compare(tmp_path, a, b)
    (b / "results.json").write_text(text.replace('"dice"', '"auroc"').replace('"iou"', '"f1"'))
    message = refusal(capsys, a, b)
    assert "no test metric in common" in message
    assert "a has dice, iou, loss; b has auroc, f1, loss" in message
