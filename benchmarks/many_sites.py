"""Peak memory and time of a round for more and more sites, which should cost no more memory.

Each number of sites is a process of its own that makes a whole run with the local engine; the
phantoms are generated before by another one, so that neither their time nor their memory counts.
Prints a Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python benchmarks/many_sites.py --sites 4 16 64
"""

import argparse
import csv
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import segmentation_models_pytorch as smp

from datamodules import ChestPhantoms
from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import Algorithm, FedAvg, PerFedAvg
from lightning_fl.engines import Local
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.monitor import Monitor
from models import Segmentation

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS: Mapping[str, type[Algorithm]] = {"FedAvg": FedAvg, "PerFedAvg": PerFedAvg}
MEMORY_TARGET = 1.2
"""Largest ratio of peak memory to that of the fewest sites."""


@dataclass(frozen=True)
class Case:
    """What one run took.

    Attributes:
        sites: how many.
        start_mib: peak memory before the run, i.e. of Python and its libraries.
        check_mib: peak memory up to the end of the check of all sites.
        rounds_mib: peak memory up to the end of the last round.
        peak_mib: peak memory of the whole run, with personalisation and report.
        round_s: median seconds of a round: train, aggregate, broadcast, evaluate, save.
        final_s: seconds from the last round to the end of the run.
    """

    sites: int
    start_mib: float
    check_mib: float
    rounds_mib: float
    peak_mib: float
    round_s: float
    final_s: float


@dataclass
class Gauge(Monitor):
    """Remembers when rounds ended and how much memory had been used by then."""

    check_mib: float = 0.0
    ends: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """The check of all sites is over."""
        self.check_mib = peak_mib()

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """A round is over; the first to be heard of is round 0, which only evaluates."""
        self.ends.append(time.perf_counter())
        self.peaks.append(peak_mib())

    def round_seconds(self) -> float:
        """Median time between two ends."""
        return median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB; Linux counts in KiB, macOS bytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def make_data(options: argparse.Namespace, sites: int) -> ChestPhantoms:
    """Few patients a site; more sites leave the others' patients as they are."""
    return ChestPhantoms(
        sites=sites,
        patients=options.patients,
        slices=options.slices,
        size=options.size,
        cache_dir=str(options.output / "phantoms"),
    )


def make_experiment(options: argparse.Namespace, sites: int) -> Experiment:
    """A short run of the quickstart's net."""
    net = smp.Unet(
        options.encoder,
        encoder_weights=None,
        encoder_depth=4,
        decoder_channels=(64, 32, 16, 16),
        in_channels=1,
        classes=1,
    )
    return Experiment(
        task=Segmentation(net),
        data=make_data(options, sites),
        algorithm=ALGORITHMS[options.algorithm](),
        aggregator=Plain(),
        engine=Local(),
        trainer=TrainerOptions(local_steps=options.local_steps, accelerator="cpu"),
        personalisation=Personalisation([FineTune([options.local_steps])]),
        rounds=options.rounds,
    )


def fill_cache(options: argparse.Namespace) -> None:
    """Generate every patient of the largest case."""
    data = make_data(options, max(options.sites))
    for site in data.site_names():
        bound = data.for_site(site, seed=0)
        for part in ("train", "val", "test"):
            dataset: Any = bound.split_dataset(part)
            for index in range(0, len(dataset), options.slices):  # one slice makes its patient
                dataset[index]


def run_case(options: argparse.Namespace, sites: int) -> Case:
    """The run itself, in a folder that is deleted afterwards."""
    start = peak_mib()
    gauge = Gauge()
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        (Path(folder) / "config.yaml").touch()
        Run(make_experiment(options, sites), Path(folder), gauge).start()
    return Case(
        sites=sites,
        start_mib=start,
        check_mib=gauge.check_mib,
        rounds_mib=gauge.peaks[-1],
        peak_mib=peak_mib(),
        round_s=gauge.round_seconds(),
        final_s=time.perf_counter() - gauge.ends[-1],
    )


def child(*arguments: str) -> str:
    """What a fresh process of this file says, called with our arguments and some more.

    Linux lets a process inherit its parent's peak; ours has only imported the libraries, which
    every child does as well.
    """
    command = [sys.executable, __file__, *sys.argv[1:], *arguments]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def table(cases: list[Case]) -> str:
    """Markdown: one row for each number of sites."""
    fewest = cases[0]
    lines = [
        f"| sites | peak, MiB | ratio (target {MEMORY_TARGET}) | after start, check, rounds, MiB |"
        " s a round | s a round and site | s at the end and site |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        stages = ", ".join(f"{v:.0f}" for v in (case.start_mib, case.check_mib, case.rounds_mib))
        lines.append(
            f"| {case.sites} | {case.peak_mib:.0f} | {case.peak_mib / fewest.peak_mib:.2f} "
            f"| {stages} | {case.round_s:.1f} | {case.round_s / case.sites:.2f} "
            f"| {case.final_s / case.sites:.2f} |"
        )
    return "\n".join(lines)


def write_csv(path: Path, cases: list[Case]) -> None:
    """One row for each number of sites."""
    rows = [asdict(case) for case in cases]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parse() -> argparse.Namespace:
    """The command line; `--case` and `--fill` are for the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", nargs="+", type=int, default=[4, 16, 64])
    parser.add_argument("--encoder", default="tu-lcnet_050", help="e.g. resnet18")
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="FedAvg")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--patients", type=int, default=4, help="of each site")
    parser.add_argument("--slices", type=int, default=4, help="of each patient")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--local-steps", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark_many_sites"))
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.sites = sorted(options.sites)
    return options


def main() -> None:
    """Fill the cache, run every case, print the table; or be one of these processes."""
    options = parse()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    options.output.mkdir(parents=True, exist_ok=True)
    if options.fill:
        fill_cache(options)
    elif options.case:
        sys.stdout.write(json.dumps(asdict(run_case(options, options.case))) + "\n")
    else:
        child("--fill")
        outputs = [child("--case", str(sites)) for sites in options.sites]
        cases = [Case(**json.loads(output.splitlines()[-1])) for output in outputs]
        write_csv(options.output / f"{options.encoder}-{options.algorithm}.csv", cases)
        sys.stdout.write(f"{options.encoder}, {options.algorithm}\n\n{table(cases)}\n")


if __name__ == "__main__":
    main()
