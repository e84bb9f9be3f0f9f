"""Rounds of a real run with sites of equal size, on one engine and another."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from callbacks import FederatedCallback
from lightning_fl.config import read_settings
from lightning_fl.monitor import Monitor
from lightning_fl.run import Run

WORKERS = 2
LEAST = 1.6
"""Times that a round should be faster on so many workers, on as many idle cores."""


@dataclass(frozen=True)
class Rounds:
    """Median seconds on one engine.

    Attributes:
        engine: its name.
        round_s: a whole round: train, secure ring, broadcast, evaluate, save.
        train_s: its training.
    """

    engine: str
    round_s: float
    train_s: float


@dataclass
class Stopwatch(Monitor):
    """Remembers when rounds ended, and how long they trained."""

    ends: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    _began: tuple[str, float] = ("", 0.0)

    def on_operation(self, *, round_: int, operation: str, sites: int) -> None:
        """Training ends where the next operation begins."""
        now = time.perf_counter()
        if self._began[0] == "train":
            self.trained.append(now - self._began[1])
        self._began = operation, now

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """The first to be heard of is round 0, which only evaluates."""
        self.ends.append(time.perf_counter())


def arguments(output: Path, sites: int, rounds: int, local_steps: int) -> list[str]:
    """Quickstart with equal sites and nothing after the last round."""
    return [
        *("--config", "configs/quickstart.yaml", "--trainer.accelerator", "cpu"),
        *("--data.init_args.sites", str(sites), "--data.init_args.patients", "[6]"),
        *("--data.init_args.cache_dir", str(output / "phantoms")),
        *("--rounds", str(rounds), "--trainer.local_steps", str(local_steps)),
        *("--personalisation.candidates", "[]", "--evaluation.gallery", "0"),
    ]


def time_rounds(output: Path, sites: int, rounds: int, local_steps: int) -> list[Rounds]:
    """The same run on both engines; one thread for each process."""
    common = arguments(output, sites, rounds, local_steps)
    engines = {
        "local": ["--engine", "local"],
        "ray": ["--engine", "ray", "--engine.workers", str(WORKERS), "--engine.threads", "1"],
    }
    found = []
    for name, options in engines.items():
        shutil.rmtree(output / name, ignore_errors=True)
        settings = read_settings([*common, *options, "--output", str(output / name)])
        settings.save()
        watch = Stopwatch()
        Run(
            settings.experiment, settings.folder, FederatedCallback, watch, text=settings.text
        ).start()
        whole = [b - a for a, b in pairwise(watch.ends)]
        found.append(Rounds(name, median(whole), median(watch.trained)))
    return found


def rounds_table(rounds: Sequence[Rounds]) -> str:
    """Markdown: one row for each engine."""
    local = rounds[0]
    lines = [
        "| engine, one thread a process | round, s | times faster | training, s | times faster |",
        "|---|---|---|---|---|",
    ]
    for one in rounds:
        lines.append(
            f"| {one.engine} | {one.round_s:.2f} | {local.round_s / one.round_s:.2f} (aim {LEAST}) "
            f"| {one.train_s:.2f} | {local.train_s / one.train_s:.2f} |"
        )
    return "\n".join(lines)
