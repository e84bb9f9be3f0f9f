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
    MofNCompleteColumn,
    Progress,
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


def progress_monitor() -> Monitor:
    """Return a `RichMonitor` where stderr is a terminal, else a `PlainMonitor`.

    The plain lines go to the logger "lightning_fl". If the program has set up no handler, it gets
    one for stderr here, because Python would drop the lines silently.
    """
    if sys.stderr.isatty():
        return RichMonitor()
    if not _log.hasHandlers():
        _log.addHandler(logging.StreamHandler())
        _log.setLevel(logging.INFO)
    return PlainMonitor()


class PlainMonitor(Monitor):
    """Logs one line a round, and the final table to stdout.

    Args:
        output: where the final table goes; stdout if None.
    """

    def __init__(self, output: Console | None = None) -> None:
        self._output = output or Console()
        self._rounds = 0
        self._started = time.monotonic()

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Log the sites and the rounds that are ahead."""
        self._rounds = rounds
        self._started = time.monotonic()
        _log.info("rounds %d to %d with %s", first_round, rounds, ", ".join(sites))

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        """Log the loss as a warning."""
        _log.warning("round %d goes on without %s: %s", round_, site, reason)

    def on_early_stop(self, *, round_: int, best_round: int) -> None:
        """Log why there are no more rounds."""
        _log.info("%s", _early_stop_text(round_, best_round))

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Log the scores, and the seconds since the round before ended."""
        now = time.monotonic()
        seconds, self._started = now - self._started, now
        scored, done = scores_text(scores, metric), f"round {round_}/{self._rounds}"
        _log.info("%s", "  ".join(filter(None, (done, scored, seconds_text(seconds)))))

    def on_run_end(self, *, results: Mapping[str, Any], run: str) -> None:
        """Print the final table and where the report is."""
        print_outcome(self._output, results, run)


class RichMonitor(Monitor):
    """Shows bars for the rounds and for the sites of the operation, and each site's last score.

    Args:
        console: where the bars go; stderr if None.
        output: where the final table goes; stdout if None.
    """

    def __init__(self, console: Console | None = None, output: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._output = output or Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=24 * 3600,  # a round may take longer than rich's 30 s
        )
        self._round_bar = self._progress.add_task("rounds", start=False)
        self._site_bar = self._progress.add_task("", start=False, visible=False)
        self._scores: Table | None = None
        self._best: dict[str, float] = {}
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Open the display; rounds that are done already, before a resume, count as done."""
        self._progress.update(self._round_bar, total=rounds, completed=first_round - 1)
        self._progress.start_task(self._round_bar)
        self._live.start()

    def on_operation(self, *, round_: int, operation: str, sites: int) -> None:
        """Start the second bar anew."""
        self._progress.reset(
            self._site_bar, total=sites, description=f"round {round_}: {operation}", visible=True
        )

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        """Move the second bar on."""
        self._progress.advance(self._site_bar)

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
        print_outcome(self._output, results, run)

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


def print_outcome(output: Console, results: Mapping[str, Any], run: str) -> None:
    """Print the final table of `results`, what results.json holds, and where the report is."""
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
