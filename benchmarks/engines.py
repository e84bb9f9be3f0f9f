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
from benchmarks.secure_ring import write_csv
from lightning_fl.aggregation import Updates
from lightning_fl.engines import Engine, Local, NVFlare, Ray
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.run.site_maker import SiteMaker
from lightning_fl.training.layout import to_vector
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Transport

ENGINES: Mapping[str, Callable[[], Engine]] = {
    "local": Local,
    "ray": lambda: Ray(cpus=0.1),
    "nvflare": NVFlare,
}
"""Engines of the ring; all but Local have a process for each site."""
NET = (
    *("--config", "configs/quickstart.yaml", "--algorithm", "lightning_fl.algorithms.FedAvg"),
    *("--net", "monai.networks.nets.BasicUNet", "--net.init_args.spatial_dims", "2"),
    *("--net.init_args.features", "[32, 32, 64, 128, 256, 32]"),
    *("--net.init_args.in_channels", "1", "--net.init_args.out_channels", "1"),
)
"""1.98 million parameters."""
TINY = (
    *("--trainer.local_steps", "1", "--trainer.accelerator", "cpu", "--data.sites", "3"),
    *("--data.size", "32", "--data.patients", "[3]", "--data.slices", "6"),
)
TIMES, PLUS = 2.0, 1.0
"""An engine's warm ring may take so many times the Local engine's, and so many seconds more."""


@dataclass(frozen=True)
class Rings:
    """Seconds of rings on one engine.

    Attributes:
        engine: its name.
        start_s: of the processes, with imports, one step of training and the end.
        warm_s: the median ring after that.
    """

    engine: str
    start_s: float
    warm_s: float


def time_rings(engine: str, repeats: int) -> Rings:
    """Train one step at each site, then rings over the same updates, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings([*NET, *TINY, "--output", f"{folder}/run"])
        settings.save()
        experiment = settings.experiment
        run = Run(experiment, settings.folder, Monitor(), text=settings.text)

        def coordinate(transport: Transport) -> list[float]:
            channel = Channel(
                transport,
                run=run.run_id,
                timeout=600.0,
                on_cost=lambda row: None,
                on_message=lambda row: None,
                monitor=Monitor(),
            )
            samples = _train(channel, run)
            updates = Updates(1, samples, run.blueprint.layout)
            ends = [time.perf_counter()]
            for _ in range(repeats + 1):
                experiment.aggregator.mean(channel, updates)
                ends.append(time.perf_counter())
            return [b - a for a, b in pairwise(ends)]

        begin = time.perf_counter()
        maker = SiteMaker(settings.text, str(settings.folder.resolve()), run.run_id, threads=1)
        first, *warm = ENGINES[engine]().run(coordinate, maker, run.blueprint.plan.training)
        whole = time.perf_counter() - begin
    return Rings(engine, whole - sum(warm) - first, median(warm))


def _train(channel: Channel, run: Run) -> dict[str, int]:
    """Give all sites the weights and an update; their samples, by name."""
    weights = to_vector(run.blueprint.template.state_dict(), run.blueprint.layout)
    sites = run.blueprint.plan.training
    info, tensors = {"blocks": 1}, {"weights": weights}
    channel.ask_all("load", dict.fromkeys(sites, channel.message(0, info=info, tensors=tensors)))
    message = channel.message(1, info={"keep": []})
    trained = channel.ask_all("train", dict.fromkeys(sites, message))
    return {site: int(answer.info["samples"]) for site, answer in trained.items()}


def rings_table(rings: list[Rings]) -> str:
    """Markdown: one row for each engine."""
    local = next(r.warm_s for r in rings if r.engine == "local")
    lines = [
        "Secure ring of three sites, 1.98 M values\n",
        "| engine | warm ring, s | times local | limit, s | met | start and end, s |",
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
        rings = [time_rings(engine, options.repeats) for engine in options.engines]
        write_csv(options.output / "ring.csv", [asdict(ring) for ring in rings])
        say(f"{rings_table(rings)}\n")
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
