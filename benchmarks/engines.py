"""What an engine costs and what it saves: the secure ring, rounds of equal sites, and the pipeline.

Three measurements. The warm secure ring of three sites on each engine; a round of eight equal sites
with one thread each, on the Ray engine with two workers against the Local engine; the ring's blocks
going round three and six sites that each take a fixed time for one. Prints Markdown, writes CSVs.
Meant for two idle cores: the load, and what two processes gain at the moment, are printed too.

    OMP_NUM_THREADS=1 python -m benchmarks.engines
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from benchmarks.engine_rounds import rounds_rows, time_rounds
from benchmarks.printing import Row, command_line, save, say, say_table
from benchmarks.ring_waves import time_waves, waves_rows
from benchmarks.secure_ring import silent_channel
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
REPEATS = 3
TIMES, PLUS = 2.0, 1.0
"""An engine's warm ring may take so many times the Local engine's, and so many seconds more."""
PARTS = ("ring", "rounds", "waves")


class Rings(NamedTuple):
    """Seconds of rings on one engine.

    Attributes:
        engine: its name.
        start_s: of the processes, with imports, one step of training and the end.
        warm_s: the median ring after that.
    """

    engine: str
    start_s: float
    warm_s: float


def time_rings(engine: str) -> Rings:
    """Train one step at each site, then make rings over the same updates, one after the other."""
    with TemporaryDirectory() as folder:
        settings = read_settings([*NET, *TINY, "--output", f"{folder}/run"])
        settings.save()
        run = Run(settings.experiment, settings.folder, Monitor(), text=settings.text)

        def coordinate(transport: Transport) -> list[float]:
            channel = silent_channel(transport, run.run_id)
            updates = Updates(1, _train(channel, run), run.blueprint.layout)
            ends = [time.perf_counter()]
            for _ in range(REPEATS + 1):
                settings.experiment.aggregator.mean(channel, updates)
                ends.append(time.perf_counter())
            return [end - begin for begin, end in pairwise(ends)]

        begin = time.perf_counter()
        maker = SiteMaker(settings.text, str(settings.folder.resolve()), run.run_id, threads=1)
        first, *warm = ENGINES[engine]().run(coordinate, maker, run.blueprint.plan.training)
        whole = time.perf_counter() - begin
    return Rings(engine, whole - sum(warm) - first, median(warm))


def _train(channel: Channel, run: Run) -> dict[str, int]:
    """Give all sites the weights and an update; return their samples, by name."""
    weights = to_vector(run.blueprint.template.state_dict(), run.blueprint.layout)
    sites = run.blueprint.plan.training
    info, tensors = {"blocks": 1}, {"weights": weights}
    channel.ask_all("load", dict.fromkeys(sites, channel.message(0, info=info, tensors=tensors)))
    message = channel.message(1, info={"keep": []})
    trained = channel.ask_all("train", dict.fromkeys(sites, message))
    return {site: int(answer.info["samples"]) for site, answer in trained.items()}


def rings_rows(rings: Sequence[Rings]) -> Iterator[Row]:
    """Yield a row for each engine."""
    local = next(ring.warm_s for ring in rings if ring.engine == "local")
    limit = TIMES * local + PLUS
    for ring in rings:
        yield {
            "engine": ring.engine,
            "warm ring, s": f"{ring.warm_s:.2f}",
            "times local": f"{ring.warm_s / local:.2f}",
            "limit, s": f"{limit:.2f}",
            "met": "yes" if ring.warm_s <= limit else "no",
            "start and end, s": f"{ring.start_s:.1f}",
        }


def _spin(steps: int) -> float:
    start = time.perf_counter()
    total = 0
    for step in range(steps):
        total += step & 7
    return time.perf_counter() - start


def parallel_gain(steps: int = 20_000_000) -> float:
    """Return how many times faster two processes do two equal tasks; 2 on two idle cores."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_spin, [1000] * 2)  # they have started
        alone = pool.apply(_spin, (steps,))
        start = time.perf_counter()
        pool.map(_spin, [steps] * 2, chunksize=1)
        return 2 * alone / (time.perf_counter() - start)


def measure(part: str, delay: float, folder: Path) -> tuple[list[Row], Iterator[Row]]:
    """Make one of the measurements; return its numbers and the rows of its table."""
    if part == "ring":
        rings = [time_rings(engine) for engine in ENGINES]
        return [ring._asdict() for ring in rings], rings_rows(rings)
    if part == "rounds":
        rounds = time_rounds(folder)
        return [engine._asdict() for engine in rounds], rounds_rows(rounds)
    waves = [time_waves(sites, delay) for sites in (3, 6)]
    return [ring._asdict() for ring in waves], waves_rows(waves)


def main() -> None:
    """Measure, print, write."""
    parser = command_line(__doc__, "engines")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--delay", type=float, default=0.018, help="seconds a site takes for a block"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts:
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        gain = parallel_gain()
        say(f"\n{os.cpu_count()} cores, load {load}; two processes gain {gain:.2f} times")
        with TemporaryDirectory() as folder:
            numbers, rows = measure(part, options.delay, Path(folder))
        save(options.csv.with_stem(f"{options.csv.stem}_{part}"), numbers)
        say_table(rows)


if __name__ == "__main__":
    main()
