"""Peak memory and time of a round for more and more sites, which should cost no more memory.

Each number of sites is a process of its own that makes a whole run with the local engine; the
phantoms are generated before by another one, so that neither their time nor their memory counts.
Linux only. Prints a Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.many_sites --sites 4 16 64
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.fresh_process import in_fresh_process, memory
from benchmarks.printing import Row, command_line, save, say_table, silence
from benchmarks.quickstart_net import quickstart_net
from datamodules import ChestPhantoms
from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import FedAvg
from lightning_fl.engines import Local
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.monitor import Monitor
from models import Segmentation

MEMORY_TARGET = 1.2
"""Largest ratio of peak memory to that of the fewest sites."""
SLICES = 4
"""Of each patient."""
STEPS = 3


class SitesTrial(NamedTuple):
    """What one run took: the peak memory up to some moments, and seconds.

    Attributes:
        start_mib: before the run, i.e. of Python and its libraries.
        check_mib: up to the end of the check of all sites.
        rounds_mib: up to the end of the last round.
        peak_mib: of the whole run, with personalisation and report.
        round_s: median of a round: train, aggregate, broadcast, evaluate, save.
        final_s: from the last round to the end of the run.
    """

    sites: int
    start_mib: float
    check_mib: float
    rounds_mib: float
    peak_mib: float
    round_s: float
    final_s: float


class Gauge(Monitor):
    """Remembers when rounds ended and how much memory had been used by then."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.peaks: list[float] = []

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Take the peak of the check of all sites, which is over."""
        self.check_mib = peak_mib()

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Take time and peak; the first round to be heard of is 0, which only evaluates."""
        self.ends.append(time.perf_counter())
        self.peaks.append(peak_mib())


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return memory("VmHWM") / 2**20


def make_data(folder: Path, sites: int) -> ChestPhantoms:
    """Return few patients a site; more sites leave the others' patients as they are."""
    return ChestPhantoms(
        sites=sites, patients=4, slices=SLICES, size=32, cache_dir=str(folder / "phantoms")
    )


def fill_cache(folder: Path, sites: int) -> None:
    """Generate every patient of the largest run."""
    data = make_data(folder, sites)
    for site in data.site_names():
        bound = data.for_site(site, seed=0)
        for part in ("train", "val", "test"):
            dataset: Any = bound.split_dataset(part)
            for index in range(0, len(dataset), SLICES):  # one slice makes its patient
                dataset[index]


def run_trial(folder: Path, sites: int, encoder: str, rounds: int) -> SitesTrial:
    """Make a short run in this process."""
    silence()
    start, gauge = peak_mib(), Gauge()
    experiment = Experiment(
        task=Segmentation(quickstart_net(encoder)),
        data=make_data(folder, sites),
        algorithm=FedAvg(),
        aggregator=Plain(),
        engine=Local(),
        trainer=TrainerOptions(local_steps=STEPS, accelerator="cpu"),
        personalisation=Personalisation([FineTune([STEPS])]),
        rounds=rounds,
    )
    Run(experiment, folder / str(sites), gauge).start()
    return SitesTrial(
        sites=sites,
        start_mib=start,
        check_mib=gauge.check_mib,
        rounds_mib=gauge.peaks[-1],
        peak_mib=peak_mib(),
        round_s=median(end - begin for begin, end in pairwise(gauge.ends)),
        final_s=time.perf_counter() - gauge.ends[-1],
    )


def rows(trials: Sequence[SitesTrial]) -> Iterator[Row]:
    """Yield a row for each number of sites."""
    fewest = trials[0]
    for trial in trials:
        stages = (trial.start_mib, trial.check_mib, trial.rounds_mib)
        yield {
            "sites": trial.sites,
            "peak, MiB": f"{trial.peak_mib:.0f}",
            f"ratio (target {MEMORY_TARGET})": f"{trial.peak_mib / fewest.peak_mib:.2f}",
            "after start, check, rounds, MiB": ", ".join(f"{peak:.0f}" for peak in stages),
            "s a round": f"{trial.round_s:.1f}",
            "s a round and site": f"{trial.round_s / trial.sites:.2f}",
            "s at the end and site": f"{trial.final_s / trial.sites:.2f}",
        }


def main() -> None:
    """Fill the cache, make every run, print the table."""
    parser = command_line(__doc__, "many_sites")
    parser.add_argument("--sites", nargs="+", type=int, default=[4, 16, 64])
    parser.add_argument("--encoder", default="tu-lcnet_050", help="e.g. resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        in_fresh_process(fill_cache, folder, max(options.sites))
        trials = [
            in_fresh_process(run_trial, folder, sites, options.encoder, options.rounds)
            for sites in sorted(options.sites)
        ]
    save(options.csv, [trial._asdict() for trial in trials])
    say_table(rows(trials))


if __name__ == "__main__":
    main()
