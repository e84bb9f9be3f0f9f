import io
import logging
import math
from typing import Any

import pytest
from rich.console import Console

from callbacks import progress
from callbacks.progress import PlainMonitor, RichMonitor, progress_monitor
from lightning_fl.results.summary import summarise
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.records import MetricRow

RESULTS: dict[str, Any] = summarise(
    final=[
        MetricRow(2, site, model, "test", "dice", value)
        for model, value in (("global", 0.5), ("personal", 0.625))
        for site in ("A", "B")
    ],
    training_sites=["A", "B"],
    rounds=3,
    best_round=2,
    costs=[],
    aggregator={},
    personalisation={},
    dropped=[],
    versions={},
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(file: io.StringIO, **settings: Any) -> Console:
    return Console(file=file, width=100, height=40, color_system=None, **settings)


def rows_of(text: str) -> list[list[str]]:
    return [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]


def play(monitor: Monitor, sites: int = 2) -> None:
    names = [chr(ord("A") + number) for number in range(sites)]
    monitor.on_run_start(sites=names, first_round=2, rounds=3)
    for round_ in (2, 3):
        monitor.on_operation(round_=round_, operation="train", total=sites)
        for site in names:
            monitor.on_site_done(site=site, operation="train", seconds=0.5)
        monitor.on_site_lost(round_=round_, site="B", reason="[timeout]")
        scores = {site: 0.25 * round_ - 0.01 * number for number, site in enumerate(names)}
        monitor.on_round_end(round_=round_, metric="dice", scores=scores)


def test_plain_monitor_logs_one_line_a_round(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    play(PlainMonitor(console(io.StringIO())))
    first, _, line, *_ = caplog.messages
    assert first == "rounds 2 to 3 with A, B"
    assert line.startswith("round 2/3  dice A 0.50  B 0.49  mean 0.49  ")
    assert line.endswith((" s", " ms"))
    assert "round 2 goes on without B: [timeout]" in caplog.messages


def test_plain_line_of_many_sites_names_the_worst(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    play(PlainMonitor(console(io.StringIO())), sites=20)
    line = caplog.messages[2]
    assert "dice T 0.31  S 0.32" in line
    assert "(12 more, none worse)  mean" in line


def test_round_without_evaluation_has_no_scores(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    PlainMonitor(console(io.StringIO())).on_round_end(round_=1, metric="dice", scores={})
    assert "dice" not in caplog.text


def test_undefined_score_is_a_dash_and_not_in_the_mean() -> None:
    text = progress.scores_text({"A": math.nan, "B": 0.5}, "dice")
    assert text == "dice A –  B 0.50  mean 0.50"  # noqa: RUF001  an en dash


def test_worst_loss_is_the_highest() -> None:
    scores = {f"S{number}": float(number) for number in range(10)}
    assert progress.scores_text(scores, "loss").startswith("loss S9 9.00")


@pytest.mark.parametrize("kind", [PlainMonitor, RichMonitor])
def test_end_shows_the_table_and_the_report(kind: type[PlainMonitor | RichMonitor]) -> None:
    file = io.StringIO()
    monitor = kind(output=console(file))
    monitor.on_run_end(results=RESULTS, run="runs/" + "long/" * 30)
    monitor.close()
    assert "│ mean  │   50.0 │     62.5 │ +12.5 │" in file.getvalue()
    assert "Report: runs/" + "long/" * 30 + "report.html" in file.getvalue()


def test_rich_monitor_shows_bars_and_scores() -> None:
    file = Terminal()
    screen = console(file, force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()))
    play(monitor)
    monitor.close()
    shown = screen.export_text()
    assert "round 2 goes on without B: [timeout]" in shown
    last = shown[shown.rindex("Validation dice after round 3") :]
    assert "round 3: train" in last
    assert "3/3" in last
    assert "2/2" in last
    assert ["A", "0.75", "0.75"] in rows_of(last)


def test_only_answers_to_the_operation_in_progress_move_its_bar() -> None:
    screen = console(Terminal(), force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()))
    monitor.on_run_start(sites=["A", "B"], first_round=1, rounds=2)
    monitor.on_operation(round_=1, operation="ring", total=12, unit="blocks")
    for _ in range(3):
        monitor.on_site_done(site="A", operation="ring_pass", seconds=0.5)
    monitor.on_part_done()
    monitor.close()
    assert "round 1: ring" in (last := screen.export_text())
    assert "1/12 blocks" in last


def steps_at_the_end(monitor: Monitor) -> None:
    monitor.on_operation(operation="segment whole scans", total=6, unit="scans")
    monitor.on_operation(round_=3, operation="load", total=2)
    monitor.on_operation(operation="write the report")


def test_plain_monitor_logs_each_step_outside_of_the_rounds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    steps_at_the_end(PlainMonitor(console(io.StringIO())))
    assert caplog.messages == ["segment whole scans: 6 scans", "write the report"]


def test_rich_monitor_shows_a_step_that_counts_nothing() -> None:
    screen = console(Terminal(), force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()))
    steps_at_the_end(monitor)  # before the rounds begin, too
    monitor.close()
    shown = screen.export_text().splitlines()
    assert shown[-1].startswith("write the report")
    assert "/" not in shown[-1].removeprefix("write the report")
    assert not any("rounds" in line for line in shown)


def test_plain_lines_name_the_direction(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    file = io.StringIO()
    monitor = PlainMonitor(console(file), direction="axial")
    play(monitor)
    monitor.on_run_end(results=RESULTS, run="runs")
    assert all(line.startswith("axial: round") for line in caplog.messages)
    assert file.getvalue().startswith("axial\n")


def test_the_first_bar_names_the_direction() -> None:
    screen = console(Terminal(), force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()), direction="coronal")
    monitor.on_run_start(sites=["A"], first_round=1, rounds=4)
    monitor.close()
    assert "coronal: rounds" in screen.export_text()


def test_rich_monitor_counts_rounds_before_a_resume() -> None:
    screen = console(Terminal(), force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()))
    monitor.on_run_start(sites=["A"], first_round=3, rounds=4)
    monitor.close()
    assert "2/4" in screen.export_text()


def test_rich_monitor_keeps_the_best_score() -> None:
    screen = console(Terminal(), force_terminal=True, record=True)
    monitor = RichMonitor(screen, console(io.StringIO()))
    monitor.on_run_start(sites=["A"], first_round=1, rounds=3)
    for round_, score in enumerate((0.75, math.nan, 0.5), start=1):
        monitor.on_round_end(round_=round_, metric="dice", scores={"A": score})
    monitor.on_round_end(round_=3, metric="dice", scores={})
    monitor.close()
    assert ["A", "0.50", "0.75"] in rows_of(screen.export_text())


def test_close_twice_or_before_the_start_does_no_harm() -> None:
    monitor = RichMonitor(console(Terminal()), console(io.StringIO()))
    monitor.close()
    monitor.close()


def test_terminal_gets_bars_and_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress_monitor(), RichMonitor)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress_monitor(), PlainMonitor)
