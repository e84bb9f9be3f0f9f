"""Rounds of a real run with sites of equal size, on one engine and another."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.printing import Row
from lightning_fl.engines import Engine, Local, Ray
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.wire.monitor import Monitor

WORKERS = 2
LEAST = 1.6
"""Times that a round should be faster on so many workers, on as many idle cores."""
QUICKSTART = (
    *("--config", "configs/quickstart.yaml", "--trainer.accelerator", "cpu"),
    *("--data.init_args.sites", "8", "--data.init_args.patients", "[6]"),
    *("--rounds", "3", "--trainer.local_steps", "20"),
    *("--personalisation.candidates", "[]", "--evaluation.gallery", "0"),
)
"""Equal sites, and nothing after the last round."""


class Rounds(NamedTuple):
    """Median seconds on one engine: of a whole round, with the secure ring, and of its training."""

    engine: str
    round_s: float
    train_s: float


class RoundTimes(Monitor):
    """Remembers when rounds ended, and how long they trained."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.trained: list[float] = []
        self._began: tuple[str, float] = ("", 0.0)

    def on_operation(self, *, operation: str, **_: object) -> None:
        """End the training where the next operation begins."""
        now = time.perf_counter()
        if self._began[0] == "train":
            self.trained.append(now - self._began[1])
        self._began = operation, now

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Take the time; the first round to be heard of is 0, which only evaluates."""
        self.ends.append(time.perf_counter())


def time_rounds(folder: Path) -> list[Rounds]:
    """Make the same run on both engines, with one thread for each process."""
    engines: Mapping[str, Engine] = {"local": Local(), "ray": Ray(workers=WORKERS, threads=1)}
    phantoms = ("--data.init_args.cache_dir", str(folder / "phantoms"))
    rounds = []
    for name, engine in engines.items():
        settings = read_settings([*QUICKSTART, *phantoms, "--output", str(folder / name)])
        settings.save()
        experiment, times = replace(settings.experiment, engine=engine), RoundTimes()
        Run(experiment, settings.folder, times, text=settings.text).start()
        seconds = [end - begin for begin, end in pairwise(times.ends)]
        rounds.append(Rounds(name, median(seconds), median(times.trained)))
    return rounds


def rounds_rows(rounds: Sequence[Rounds]) -> Iterator[Row]:
    """Yield a row for each engine."""
    local = rounds[0]
    for measured in rounds:
        yield {
            "engine, one thread a process": measured.engine,
            "round, s": f"{measured.round_s:.2f}",
            f"times faster (aim {LEAST})": f"{local.round_s / measured.round_s:.2f}",
            "training, s": f"{measured.train_s:.2f}",
            "training, times faster": f"{local.train_s / measured.train_s:.2f}",
        }
