"""Processor time, bytes and memory of secure aggregation, against other ways to do the same sum.

All parties run in this process, one after the other, so that its processor time is that of all of
them together. The ways take turns on the same updates of a network of the paper's size. Bytes are
what the sites send: keys, ciphertexts, results. Prints Markdown tables, writes a CSV and a plot.

    OMP_NUM_THREADS=1 python -m benchmarks.secure_aggregation --repeats 3
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.secure_baselines import (
    Outcome,
    Problem,
    nvflare,
    paper,
    unet_layout,
)
from benchmarks.secure_ring import PARTS, Meter, run_ring, write_csv
from lightning_fl.aggregation import CyclicCKKS, Updates
from lightning_fl.site.store import SiteStore

COMPACT_BITS, WIDE_BITS = 16, 24


class Aim(NamedTuple):
    """How many times less of something we want to take than another way."""

    ours: str
    theirs: str
    column: str
    least: float


AIMS = (
    Aim("compact", "paper", "cpu_s", 17),
    Aim("compact", "paper", "bytes_up", 14),
    Aim("wide", "paper", "cpu_s", 9),
    Aim("wide", "paper", "bytes_up", 7),
    Aim("wide", "paper", "error", 1000),
    Aim("compact", "nvflare", "cpu_s", 3),
    Aim("compact", "nvflare", "bytes_up", 7),
)


def ring(problem: Problem, bits: int) -> Outcome:
    """One round of our ring; on the compact grid one that has a round before it."""
    aggregator = CyclicCKKS(bits=bits)
    memory: Mapping[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in (1, 2) if aggregator.settings.compact else (2,):
            for name, update in problem.updates.items():
                SiteStore(Path(folder) / name).save_update(round_, update)
            updates = Updates(round_, problem.samples, problem.layout, memory=memory)
            aggregate, outcome = run_ring(aggregator, updates, Path(folder), Meter())
            memory = aggregate.memory
    return outcome


# ---------------------------------------------------------------------- the comparison

WAYS: Mapping[str, tuple[str, Callable[[Problem], Outcome]]] = {
    "compact": (f"ring, compact ({COMPACT_BITS} bits)", lambda p: ring(p, COMPACT_BITS)),
    "wide": (f"ring, wide ({WIDE_BITS} bits)", lambda p: ring(p, WIDE_BITS)),
    "paper": ("the paper's parameters and ring", paper),
    "nvflare": ("NVFlare's parameters, server", nvflare),
}


@dataclass(frozen=True)
class Trial:
    """One way's turn.

    Attributes:
        way: key of `WAYS`.
        repetition: number of the turn.
        cpu_s: processor seconds of all parties together.
        bytes_up: sent by all sites together.
        error: largest absolute error of the mean.
        rms: root mean square of the errors.
        clipped: values that did not fit the grid and are carried to the next round.
        parts: processor seconds by part; our ring only.
    """

    way: str
    repetition: int
    cpu_s: float
    bytes_up: int
    error: float
    rms: float
    clipped: int
    parts: dict[str, float]


def compare(problem: Problem, repeats: int) -> list[Trial]:
    """All ways in turn, `repeats` times."""
    exact, trials = problem.exact(), []
    for repetition in range(repeats):
        for way, (_, act) in WAYS.items():
            done = act(problem)
            errors = done.mean.double() - exact
            largest, rms = float(errors.abs().max()), float(errors.square().mean().sqrt())
            trials.append(
                Trial(
                    way,
                    repetition,
                    done.cpu_s,
                    done.bytes_up,
                    largest,
                    rms,
                    done.clipped,
                    done.parts,
                )
            )
    return trials


def middle(trials: Sequence[Trial], way: str, column: str) -> float:
    """Median over a way's turns."""
    return float(median(getattr(trial, column) for trial in trials if trial.way == way))


def table(trials: Sequence[Trial], problem: Problem) -> str:
    """Markdown: one row for each way."""
    length, sites = problem.layout.length, len(problem.samples)
    lines = [
        "| way | CPU, s | ns a parameter | MB sent | bytes a parameter and site | largest error"
        " (rms) | clipped | CPU: times compact, wide | bytes: times compact, wide |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way, (title, _) in WAYS.items():
        cpu, sent, error = (middle(trials, way, c) for c in ("cpu_s", "bytes_up", "error"))
        ratios = [
            ", ".join(f"{value / middle(trials, ours, column):.2f}" for ours in ("compact", "wide"))
            for column, value in (("cpu_s", cpu), ("bytes_up", sent))
        ]
        lines.append(
            f"| {title} | {cpu:.2f} | {1e9 * cpu / length:.0f} | {sent / 1e6:.1f} "
            f"| {sent / length / sites:.2f} | {error:.1e} ({middle(trials, way, 'rms'):.0e}) "
            f"| {middle(trials, way, 'clipped'):.0f} | {' | '.join(ratios)} |"
        )
    return "\n".join(lines)


def parts_table(trials: Sequence[Trial]) -> str:
    """Markdown: where our ring's time goes, in processor seconds (share)."""
    lines = [f"| CPU, s | {' | '.join(PARTS)} |", "|---" * (len(PARTS) + 1) + "|"]
    for way in ("compact", "wide"):
        own = [trial for trial in trials if trial.way == way]
        cells = []
        for part in PARTS:
            share = median(trial.parts[part] / trial.cpu_s for trial in own)
            cells.append(f"{share * middle(trials, way, 'cpu_s'):.2f} ({share:.0%})")
        lines.append(f"| {WAYS[way][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def aims_table(trials: Sequence[Trial]) -> str:
    """Markdown: what we want and what came out."""
    names = {"cpu_s": "CPU", "bytes_up": "bytes", "error": "largest error"}
    lines = ["| theirs divided by ours | aim | measured | |", "|---|---|---|---|"]
    for ours, theirs, column, least in AIMS:
        ratio = middle(trials, theirs, column) / middle(trials, ours, column)
        verdict = "met" if ratio >= least else "MISSED"
        title = f"{names[column]}: {theirs} / {ours}"
        lines.append(f"| {title} | >= {least:g} | {ratio:.1f} | {verdict} |")
    return "\n".join(lines)


def plot_comparison(path: Path, trials: Sequence[Trial], problem: Problem) -> None:
    """A bar for each way: processor time and bytes."""
    length, sites = problem.layout.length, len(problem.samples)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        titles = [title for title, _ in WAYS.values()]
        for axes, column, unit, digits, label in (
            (panels[0], "cpu_s", 1e9 / length, ",.0f", "CPU of all parties, ns a parameter"),
            (panels[1], "bytes_up", 1 / length / sites, ".1f", "sent, bytes a parameter and site"),
        ):
            values = [unit * middle(trials, way, column) for way in WAYS]
            bars = axes.barh(titles, values, color=["#009e73", "#56b4e9", "#d55e00", "#e69f00"])
            axes.bar_label(bars, [f"{value:{digits}}" for value in values], padding=3)
            axes.set(xlabel=label)
            axes.margins(x=0.15)
        panels[0].invert_yaxis()
        figure.savefig(path, dpi=150)


# ---------------------------------------------------------------------- output


def flat(trial: Trial) -> dict[str, Any]:
    """A trial as a row of the CSV: a column for each part, empty where it is not known."""
    *columns, _ = astuple(trial)
    names = ("way", "repetition", "cpu_s", "bytes_up", "error", "rms", "clipped")
    parts = {f"{part}_s": trial.parts.get(part, "") for part in PARTS}
    return dict(zip(names, columns, strict=True)) | parts


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-secure-aggregation"))
    return parser.parse_args()


def main() -> None:
    """Compare, and print the tables."""
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    problem = Problem.make(unet_layout(16.0), 3)
    trials = compare(problem, options.repeats)
    write_csv(options.output / "comparison.csv", [flat(trial) for trial in trials])
    plot_comparison(options.output / "comparison.png", trials, problem)
    tables = (table(trials, problem), parts_table(trials), aims_table(trials))
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
