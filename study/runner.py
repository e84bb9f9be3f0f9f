"""Trains what a study lacks, and says how far it is."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from lightning_fl.results.formats import seconds_text
from study.folder import is_finished, job, write_outcome
from study.plan import PlannedRun
from study.pool import perform_all
from study.worker import Job


class Display:
    """A bar for the study, a line for each run under way, and a line that stays for each done.

    Args:
        total: number of runs.
        done: how many of them were finished before.
        console: where to.
    """

    def __init__(self, total: int, done: int, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.all = self.progress.add_task("runs", total=total, completed=done)
        self.lines: dict[str, tuple[TaskID, float]] = {}
        self.total, self.done = total, done

    def on_start(self, job: Job) -> None:
        """Show the run."""
        line = self.progress.add_task(f"  {job.name}", total=1)
        self.lines[job.name] = line, time.monotonic()

    def on_end(self, job: Job, reason: str) -> None:
        """Say how it went."""
        line, start = self.lines.pop(job.name)
        self.progress.remove_task(line)
        self.progress.advance(self.all)
        self.done += 1
        took = seconds_text(time.monotonic() - start)
        words = f"{self.done}/{self.total}  {job.name}  {took}"
        style = "red" if reason else ""
        self.progress.console.print(
            Text(f"{words}  FAILED: {reason}" if reason else words, style=style), soft_wrap=True
        )


class Runner:
    """Trains the runs of a study that are not finished.

    Args:
        folder: of the study.
        runs: those asked for.
        after: called after each run, e.g. to write the tables.
        console: for progress.
    """

    def __init__(
        self,
        folder: Path,
        runs: Sequence[PlannedRun],
        after: Callable[[], None],
        console: Console,
    ) -> None:
        todo = [run for run in runs if not is_finished(folder / run.path)]
        self.folder = folder
        self.jobs = {job(folder, run): run for run in todo}
        self.after = after
        self.display = Display(len(runs), len(runs) - len(todo), console)

    def run(self, workers: int) -> None:
        """Train; what fails is written down, and the others go on."""
        with self.display.progress:
            perform_all(list(self.jobs), workers, self)

    def on_start(self, job: Job) -> None:
        """A run has begun."""
        self.display.on_start(job)

    def on_end(self, job: Job, reason: str) -> None:
        """A run is over."""
        run = self.jobs[job]
        if not reason and not is_finished(self.folder / run.path):
            reason = f"it ended without results; see {job.log}"
        write_outcome(self.folder, run, reason)
        self.display.on_end(job, reason)
        self.after()
