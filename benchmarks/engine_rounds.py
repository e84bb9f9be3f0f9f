"""Rounds of a real run with sites of equal size, on one engine and another."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeVar

from lightning_fl.engines import Engine, Local, Ray
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Answering, Transport

T = TypeVar("T")
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
        cpu_s: processor seconds of a round, the coordinator's and the busiest worker's; about what
            a round takes where every process has a core, whatever else runs now.
    """

    engine: str
    round_s: float
    train_s: float
    cpu_s: float


@dataclass
class Stopwatch(Monitor):
    """Remembers when rounds ended, and how long they trained."""

    pids: Sequence[int] = ()
    ends: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
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
        busiest = max((_processor_seconds(pid) for pid in self.pids), default=0.0)
        self.spent.append(time.process_time() + busiest)


class WatchedRay(Ray):
    """Tells a stopwatch the processes of its workers."""

    watch: Stopwatch

    def run(
        self,
        coordinate: Callable[[Transport], T],
        make_site: Callable[[str], Answering],
        names: Sequence[str],
    ) -> T:
        """As the engine does, and a question to each site that starts its process."""

        def watched(transport: Transport) -> T:
            transport.map("", dict.fromkeys(names, b""), timeout=self.timeout)
            self.watch.pids = sorted({worker.pid for worker in transport.workers})  # type: ignore[attr-defined]
            return coordinate(transport)

        return super().run(watched, make_site, names)


def _processor_seconds(pid: int) -> float:
    """Of a process, so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    watches = {"local": Stopwatch(), "ray": Stopwatch()}
    ray = WatchedRay(workers=WORKERS, threads=1)
    ray.watch = watches["ray"]
    engines: Mapping[str, Engine] = {"local": Local(), "ray": ray}
    found = []
    for name, watch in watches.items():
        shutil.rmtree(output / name, ignore_errors=True)
        settings = read_settings([*common, "--output", str(output / name)])
        settings.save()
        experiment = replace(settings.experiment, engine=engines[name])
        run = Run(experiment, settings.folder, watch, text=settings.text)
        run.start()
        whole, cpu = ([b - a for a, b in pairwise(s)] for s in (watch.ends, watch.spent))
        found.append(Rounds(name, median(whole), median(watch.trained), median(cpu)))
    return found


def rounds_table(rounds: Sequence[Rounds]) -> str:
    """Markdown: one row for each engine."""
    local = rounds[0]
    lines = [
        "| engine, one thread a process | round, s | times faster | training, s | times faster "
        "| processor, s, of the busiest | times less |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rounds:
        lines.append(
            f"| {one.engine} | {one.round_s:.2f} | {local.round_s / one.round_s:.2f} (aim {LEAST}) "
            f"| {one.train_s:.2f} | {local.train_s / one.train_s:.2f} "
            f"| {one.cpu_s:.2f} | {local.cpu_s / one.cpu_s:.2f} |"
        )
    return "\n".join(lines)
