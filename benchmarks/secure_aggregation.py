"""Processor time, bytes and memory of secure aggregation, against other ways to do the same sum.

All parties run in this process, one after the other, so that its processor time is that of all of
them together. The ways take turns on the same updates of a network of the paper's size. Bytes are
what the sites send: keys, ciphertexts, results. Prints Markdown tables, writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.secure_aggregation --repeats 3
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.printing import Row, command_line, save, say, say_table
from benchmarks.secure_baselines import MeasuredMean, Problem, nvflare, paper, unet_layout
from benchmarks.secure_ring import PARTS, Meter, run_ring
from lightning_fl.aggregation import CyclicCKKS, Updates
from lightning_fl.site.store import SiteStore


class Goal(NamedTuple):
    """How many times less of something we want to take than another way."""

    ours: str
    theirs: str
    column: str
    least: float


GOALS = (
    Goal("compact", "paper", "cpu_s", 17),
    Goal("compact", "paper", "bytes_up", 14),
    Goal("wide", "paper", "cpu_s", 9),
    Goal("wide", "paper", "bytes_up", 7),
    Goal("wide", "paper", "error", 1000),
    Goal("compact", "nvflare", "cpu_s", 3),
    Goal("compact", "nvflare", "bytes_up", 7),
)
OURS = ("compact", "wide")
COLUMNS = {"cpu_s": "CPU", "bytes_up": "bytes", "error": "largest error"}


def ring(problem: Problem, bits: int) -> MeasuredMean:
    """Make one round of our ring; on the compact grid one that has a round before it."""
    aggregator = CyclicCKKS(bits=bits)
    memory: Mapping[str, Any] = {}
    with TemporaryDirectory() as folder:
        for round_ in (1, 2) if aggregator.settings.compact else (2,):
            for name, update in problem.updates.items():
                SiteStore(Path(folder) / name).save_update(round_, update, "first weights")
            updates = Updates(round_, problem.samples, problem.layout, memory=memory)
            aggregate, result = run_ring(aggregator, updates, Path(folder), Meter())
            memory = aggregate.memory
    return result


WAYS: Mapping[str, tuple[str, Callable[[Problem], MeasuredMean]]] = {
    "compact": ("ring, compact (16 bits)", lambda problem: ring(problem, 16)),
    "wide": ("ring, wide (24 bits)", lambda problem: ring(problem, 24)),
    "paper": ("the paper's parameters and ring", paper),
    "nvflare": ("NVFlare's parameters, server", nvflare),
}


def compare(problem: Problem, repeats: int) -> pd.DataFrame:
    """Take all ways in turn; a row has what one took, how far its mean is off, and its parts."""
    exact, trials = problem.exact(), []
    for repetition in range(repeats):
        for way, (_, act) in WAYS.items():
            result = act(problem)
            errors = result.mean.double() - exact
            trials.append(
                {
                    "way": way,
                    "repetition": repetition,
                    "cpu_s": result.cpu_s,
                    "bytes_up": result.bytes_up,
                    "error": float(errors.abs().max()),
                    "rms": float(errors.square().mean().sqrt()),
                    "clipped": result.clipped,
                    **result.parts,
                }
            )
    return pd.DataFrame(trials)


def ways_rows(medians: pd.DataFrame, problem: Problem) -> Iterator[Row]:
    """Yield a row for each way."""
    length, sites = problem.layout.length, len(problem.samples)
    for way, (title, _) in WAYS.items():
        middle = medians.loc[way]
        cpu, sent = (
            ", ".join(f"{middle[column] / medians[column][ours]:.2f}" for ours in OURS)
            for column in ("cpu_s", "bytes_up")
        )
        yield {
            "way": title,
            "CPU, s": f"{middle.cpu_s:.2f}",
            "ns a parameter": f"{1e9 * middle.cpu_s / length:.0f}",
            "MB sent": f"{middle.bytes_up / 1e6:.1f}",
            "bytes a parameter and site": f"{middle.bytes_up / length / sites:.2f}",
            "largest error (rms)": f"{middle.error:.1e} ({middle.rms:.0e})",
            "clipped": f"{middle.clipped:.0f}",
            "CPU: times compact, wide": cpu,
            "bytes: times compact, wide": sent,
        }


def parts_rows(trials: pd.DataFrame, medians: pd.DataFrame) -> Iterator[Row]:
    """Yield where our ring's time goes, in processor seconds (share)."""
    shares = trials[list(PARTS)].div(trials.cpu_s, axis=0).groupby(trials.way).median()
    for way in OURS:
        seconds = shares.loc[way] * medians.cpu_s[way]
        cells = {part: f"{seconds[part]:.2f} ({shares[part][way]:.0%})" for part in PARTS}
        yield {"CPU, s": WAYS[way][0]} | cells


def goals_rows(medians: pd.DataFrame) -> Iterator[Row]:
    """Yield what we want and what came out."""
    for ours, theirs, column, least in GOALS:
        ratio = medians[column][theirs] / medians[column][ours]
        yield {
            "theirs divided by ours": f"{COLUMNS[column]}: {theirs} / {ours}",
            "aim": f">= {least:g}",
            "measured": f"{ratio:.1f}",
            "": "met" if ratio >= least else "MISSED",
        }


def main() -> None:
    """Compare, and print the tables."""
    parser = command_line(__doc__, "secure_aggregation")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    options = parser.parse_args()
    problem = Problem.make(unet_layout(16.0), 3)
    trials = compare(problem, options.repeats)
    save(options.csv, trials.to_dict("records"))
    medians = trials.groupby("way").median()
    for rows in (ways_rows(medians, problem), parts_rows(trials, medians), goals_rows(medians)):
        say_table(rows)
        say("")


if __name__ == "__main__":
    main()
