"""What an engine costs and what it saves: the secure ring, rounds of equal sites, and the pipeline.

Three measurements. The warm secure ring of three sites on each engine; a round of eight equal sites
with one thread each, on the Ray engine with two workers against the Local engine; the ring's blocks
going round three and six sites that each take a fixed time for one. Prints Markdown, writes CSVs.
Meant for two idle cores: the load, and what two processes gain at the moment, are printed too.

    OMP_NUM_THREADS=1 python -m benchmarks.engines
"""

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from benchmarks.engine_rounds import rounds_table, time_rounds
from benchmarks.ring_waves import time_waves, waves_table
from benchmarks.secure_ring import RUN, RingSite, write_csv
from lightning_fl.aggregation import CyclicCKKS, Updates
from lightning_fl.channel import Channel
from lightning_fl.engines import Engine, Local, Ray
from lightning_fl.monitor import Monitor
from lightning_fl.parameters import Layout
from lightning_fl.site_store import SiteStore
from lightning_fl.transport import Transport

ENGINES: Mapping[str, Callable[[], Engine]] = {"local": Local, "ray": lambda: Ray(cpus=0.1)}
"""Engines of the ring; Ray has a process for each site here."""
SITES = {"A": 300, "B": 200, "C": 100}
"""Training samples of the ring's sites."""
TIMES, PLUS = 2.0, 1.0
"""An engine's warm ring may take so many times the Local engine's, and so many seconds more."""


@dataclass(frozen=True)
class MakeRingSite:
    """Makes the ring's sites, wherever it is unpickled; their updates lie in the folder."""

    folder: str
    values: int

    def __call__(self, name: str) -> RingSite:
        """One site."""
        layout = Layout((("weights", (self.values,)),), ())
        return RingSite(name, CyclicCKKS(), layout, SITES[name], Path(self.folder))


@dataclass(frozen=True)
class Rings:
    """Seconds of rings on one engine.

    Attributes:
        engine: its name.
        start_s: until the first ring is closed, processes and imports included.
        warm_s: the median ring after that.
    """

    engine: str
    start_s: float
    warm_s: float


def time_rings(engine: str, values: int, repeats: int) -> Rings:
    """Rings over the same updates, one after the other."""
    make_layout = Layout((("weights", (values,)),), ())
    updates = Updates(1, SITES, make_layout)
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(SITES):
            torch.manual_seed(seed)
            SiteStore(Path(folder) / name).save_update(1, 0.01 * torch.randn(values))

        def coordinate(transport: Transport) -> list[float]:
            channel = Channel(
                transport,
                run=RUN,
                timeout=600.0,
                on_cost=lambda row: None,
                on_message=lambda row: None,
                monitor=Monitor(),
            )
            ends = [begin]
            for _ in range(repeats + 1):
                CyclicCKKS().mean(channel, updates)
                ends.append(time.perf_counter())
            return [b - a for a, b in pairwise(ends)]

        begin = time.perf_counter()
        make_site = MakeRingSite(folder, values)
        first, *warm = ENGINES[engine]().run(coordinate, make_site, list(SITES))
    return Rings(engine, first, median(warm))


def rings_table(rings: list[Rings], values: int) -> str:
    """Markdown: one row for each engine."""
    local = next(r.warm_s for r in rings if r.engine == "local")
    lines = [
        f"Secure ring of {len(SITES)} sites, {values / 1e6:.2f} M values\n",
        "| engine | warm ring, s | times local | limit, s | met | first ring, with the start, s |",
        "|---|---|---|---|---|---|",
    ]
    for ring in rings:
        limit = TIMES * local + PLUS
        met = "yes" if ring.warm_s <= limit else "no"
        lines.append(
            f"| {ring.engine} | {ring.warm_s:.2f} | {ring.warm_s / local:.2f} | {limit:.2f} | "
            f"{met} | {ring.start_s:.1f} |"
        )
    return "\n".join(lines)


def _spin(steps: int) -> float:
    start = time.perf_counter()
    total = 0
    for step in range(steps):
        total += step & 7
    return time.perf_counter() - start


def parallel_gain(steps: int = 20_000_000) -> float:
    """How many times faster two processes do two equal tasks than one; 2 on two idle cores."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_spin, [1000] * 2)  # they have started
        alone = pool.apply(_spin, (steps,))
        start = time.perf_counter()
        pool.map(_spin, [steps] * 2, chunksize=1)
        return 2 * alone / (time.perf_counter() - start)


def machine() -> str:
    """How busy it is."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load}; two processes gain {parallel_gain():.2f} times"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--parts", nargs="+", default=["ring", "rounds", "waves"])
    parser.add_argument("--values", type=int, default=1_940_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sites", type=int, default=8, help="of the rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--local-steps", type=int, default=20)
    parser.add_argument(
        "--delay", type=float, default=0.018, help="seconds a site takes for a block"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark_engines"))
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = parse()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    say = sys.stdout.write
    if "ring" in options.parts:
        say(f"\n{machine()}\n")
        rings = [time_rings(engine, options.values, options.repeats) for engine in options.engines]
        write_csv(options.output / "ring.csv", [asdict(ring) for ring in rings])
        say(f"{rings_table(rings, options.values)}\n")
    if "rounds" in options.parts:
        say(f"\n{machine()}\n")
        rounds = time_rounds(options.output, options.sites, options.rounds, options.local_steps)
        write_csv(options.output / "rounds.csv", [asdict(one) for one in rounds])
        say(f"{rounds_table(rounds)}\n")
    if "waves" in options.parts:
        waves = [time_waves(n, options.values, options.delay) for n in (3, 6)]
        write_csv(options.output / "waves.csv", [asdict(one) for one in waves])
        say(f"\n{waves_table(waves)}\n")


if __name__ == "__main__":
    main()
