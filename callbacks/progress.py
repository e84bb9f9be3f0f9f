"""Progress of a federation: bars on a terminal, one plain line a round anywhere else."""

import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lightning_fl.results.formats import LOWER_IS_BETTER, MISSING, seconds_text
from lightning_fl.results.scores import headline_metric
from lightning_fl.results.tables import final_table
from lightning_fl.wire.monitor import Monitor

SITES_SHOWN = 8
"""With more sites than these, only the worst scores are shown."""

_log = logging.getLogger("lightning_fl")


def progress_monitor(direction: str = "") -> Monitor:
    """Return a `RichMonitor` where stderr is a terminal, else a `PlainMonitor`.

    The plain lines go to the logger "lightning_fl". If the program has set up no handler, it gets
    one for stderr here, because Python would drop the lines silently.

    Args:
        direction: names one of several runs of an experiment; "" for the only one.
    """
    if sys.stderr.isatty():
        return RichMonitor(direction=direction)
    if not _log.hasHandlers():
        _log.addHandler(logging.StreamHandler())
        _log.setLevel(logging.INFO)
    return PlainMonitor(direction=direction)


class PlainMonitor(Monitor):
    """Logs one line a round and one for each step before and after them; prints the final table.

    Args:
        output: where the final table goes; stdout if None.
        direction: begins each line, where an experiment has several runs.
    """

    def __init__(self, output: Console | None = None, *, direction: str = "") -> None:
        self._output = output or Console()
        self._direction = direction
        self._rounds = 0
        self._started = time.monotonic()

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Log the sites and the rounds that are ahead."""
        self._rounds = rounds
        self._started = time.monotonic()
        self._say(f"rounds {first_round} to {rounds} with {', '.join(sites)}")

    def on_operation(
        self,
        *,
        operation: str,
        round_: int | None = None,
        total: int | None = None,
        unit: str = "sites",
    ) -> None:
        """Log an operation outside of the rounds; those of a round are in its line."""
        if round_ is None:
            self._say(operation if total is None else f"{operation}: {total} {unit}")

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        """Log the loss as a warning."""
        self._say(f"round {round_} goes on without {site}: {reason}", logging.WARNING)

    def on_early_stop(self, *, round_: int, best_round: int) -> None:
        """Log why there are no more rounds."""
        self._say(_early_stop_text(round_, best_round))

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Log the scores, and the seconds since the round before ended."""
        now = time.monotonic()
        seconds, self._started = now - self._started, now
        scored, done = scores_text(scores, metric), f"round {round_}/{self._rounds}"
        self._say("  ".join(filter(None, (done, scored, seconds_text(seconds)))))

    def on_run_end(self, *, results: Mapping[str, Any], run: str) -> None:
        """Print the final table and where the report is."""
        print_outcome(self._output, results, run, self._direction)

    def _say(self, line: str, level: int = logging.INFO) -> None:
        _log.log(level, "%s", f"{self._direction}: {line}" if self._direction else line)


class CountColumn(ProgressColumn):
    """Shows what is done and of what, e.g. "3/12 blocks"; nothing where it is not counted."""

    def render(self, task: Task) -> Text:
        """Return the text for one bar."""
        if task.total is None:
            return Text()
        return Text(f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}".rstrip())


class RichMonitor(Monitor):
    """Shows bars for the rounds and for the operation in progress, and each site's last score.

    Args:
        console: where the bars go; stderr if None.
        output: where the final table goes; stdout if None.
        direction: begins the first bar, where an experiment has several runs.
    """

    def __init__(
        self,
        console: Console | None = None,
        output: Console | None = None,
        *,
        direction: str = "",
    ) -> None:
        self._direction = direction
        self._console = console or Console(stderr=True)
        self._output = output or Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            CountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=24 * 3600,  # a round may take longer than rich's 30 s
        )
        rounds = f"{direction}: rounds" if direction else "rounds"
        self._round_bar = self._progress.add_task(rounds, start=False, visible=False, unit="")
        self._operation = ""
        self._bar: TaskID | None = None
        self._scores: Table | None = None
        self._best: dict[str, float] = {}
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Open the display; rounds that are done already, before a resume, count as done."""
        done = first_round - 1
        self._progress.update(self._round_bar, total=rounds, completed=done, visible=True)
        self._progress.start_task(self._round_bar)
        self._live.start()

    def on_operation(
        self,
        *,
        operation: str,
        round_: int | None = None,
        total: int | None = None,
        unit: str = "sites",
    ) -> None:
        """Start the second bar anew."""
        self._live.start()  # the first operation comes before the rounds
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        words = operation if round_ is None else f"round {round_}: {operation}"
        self._bar = self._progress.add_task(words, total=total, unit=unit)
        self._operation = operation

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        """Move the second bar on, if it is the bar of this operation."""
        if operation == self._operation:  # sites answer others on the way, e.g. those of a ring
            self.on_part_done()

    def on_part_done(self) -> None:
        """Move the second bar on."""
        if self._bar is not None:
            self._progress.advance(self._bar)

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        """Write a line above the bars, which stays."""
        line = f"round {round_} goes on without {site}: {reason}"
        self._console.print(Text(line, style="yellow"))

    def on_early_stop(self, *, round_: int, best_round: int) -> None:
        """Write a line above the bars, which stays."""
        self._console.print(Text(_early_stop_text(round_, best_round)))

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Move the first bar on and show the scores of the round."""
        self._progress.update(self._round_bar, completed=round_)
        best = min if metric in LOWER_IS_BETTER else max
        for site, score in scores.items():
            if math.isfinite(score):
                self._best[site] = best(self._best.get(site, score), score)
        if scores:
            self._scores = self._table(round_, metric, scores)

    def on_run_end(self, *, results: Mapping[str, Any], run: str) -> None:
        """Take the bars away; print the final table and where the report is."""
        self.close()
        print_outcome(self._output, results, run, self._direction)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def _render(self) -> Group:
        """Return the display as it is now."""
        return Group(*([self._scores] if self._scores else []), self._progress)

    def _table(self, round_: int, metric: str, scores: Mapping[str, float]) -> Table:
        """Lay out the scores of a round beside the best one that each site has had."""
        title = f"Validation {metric} after round {round_}"
        # rich folds a title that is wider than its table
        table = Table(title=title, title_justify="left", min_width=len(title))
        for column in ("site", "now", "best"):
            table.add_column(column, justify="left" if column == "site" else "right")
        shown, rest = _shown(scores, metric)
        for site in shown:
            row = (site, _score(scores[site]), _score(self._best.get(site, math.nan)))
            table.add_row(*(Text(cell) for cell in row))
        if rest:
            table.add_row(Text(rest, style="dim"), "", "")
        table.add_section()
        table.add_row("mean", _score(_mean(scores)), _score(_mean(self._best)), style="bold")
        return table


def print_outcome(
    output: Console, results: Mapping[str, Any], run: str, direction: str = ""
) -> None:
    """Print the final table of `results`, what results.json holds, and where the report is."""
    if direction:
        output.print(Text(direction))
    output.print(final_table(results, headline_metric(results)))
    # soft_wrap keeps a long path in one piece, so that it can be copied and clicked.
    output.print(Text(f"Report: {Path(run) / 'report.html'}"), soft_wrap=True)


def _early_stop_text(round_: int, best_round: int) -> str:
    return f"training stops after round {round_}: round {best_round} is the best (patience)"


def scores_text(scores: Mapping[str, float], metric: str) -> str:
    """Return a round's scores in one line, e.g. "dice A 0.61  B 0.55  mean 0.58"; "" if none."""
    if not scores:  # a round that was not evaluated
        return ""
    shown, rest = _shown(scores, metric)
    parts = [f"{site} {_score(scores[site])}" for site in shown]
    if rest:
        parts.append(f"({rest})")
    return "  ".join([f"{metric} {parts[0]}", *parts[1:], f"mean {_score(_mean(scores))}"])


def _shown(scores: Mapping[str, float], metric: str) -> tuple[list[str], str]:
    """Choose the sites to show, and say how many are left out.

    All are shown in their order. If they are many, the worst are, those without score first.
    """
    if len(scores) <= SITES_SHOWN:
        return list(scores), ""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rank = {
        site: sign * score if math.isfinite(score) else -math.inf for site, score in scores.items()
    }
    worst = sorted(scores, key=rank.__getitem__)[:SITES_SHOWN]
    return worst, f"{len(scores) - SITES_SHOWN} more, none worse"


def _mean(scores: Mapping[str, float]) -> float:
    """Average over the sites that have a score; NaN if none has."""
    defined = [score for score in scores.values() if math.isfinite(score)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _score(value: float) -> str:
    """Write two digits, or a dash for a score that is not defined."""
    return f"{value:.2f}" if math.isfinite(value) else MISSING
