"""Train what a study lacks, and say how far it is."""

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
from study.conditions import PlannedRun
from study.pool import perform_all
from study.study_folder import is_finished, job, write_outcome
from study.worker import Job


class Runner:
    """Trains the runs of a study that are not finished.

    Shows a bar for the study, a line for each run under way, and a line that stays for each done.

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
        after: Callable[[], object],
        console: Console,
    ) -> None:
        todo = [run for run in runs if not is_finished(folder / run.path)]
        self.folder = folder
        self.jobs = {job(folder, run): run for run in todo}
        self.after = after
        self.total, self.done = len(runs), len(runs) - len(todo)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.bar = self.progress.add_task("runs", total=self.total, completed=self.done)
        self.lines: dict[Job, tuple[TaskID, float]] = {}

    def run(self, workers: int) -> None:
        """Train; what fails is written down, and the others go on."""
        with self.progress:
            perform_all(list(self.jobs), workers, self)

    def on_start(self, job: Job) -> None:
        """Show a run that has begun."""
        self.lines[job] = self.progress.add_task(f"  {job.name}", total=1), time.monotonic()

    def on_end(self, job: Job, reason: str) -> None:
        """Write down and show how a run ended."""
        run = self.jobs[job]
        if not reason and not is_finished(self.folder / run.path):
            reason = f"it ended without results; see {job.log}"
        write_outcome(self.folder, run, reason)
        line, start = self.lines.pop(job)
        self.progress.remove_task(line)
        self.progress.advance(self.bar)
        self.done += 1
        words = f"{self.done}/{self.total}  {job.name}  {seconds_text(time.monotonic() - start)}"
        text = Text(f"{words}  FAILED: {reason}", style="red") if reason else Text(words)
        self.progress.console.print(text, soft_wrap=True)
        self.after()
