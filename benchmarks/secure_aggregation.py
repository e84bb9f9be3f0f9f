"""Processor time, bytes and memory of secure aggregation, against other ways to do the same sum.

All parties run in this process, one after the other, so that its processor time is that of all of
them together. The ways take turns on the same updates of a network of the paper's size. Bytes are
what the sites send: keys, ciphertexts, results. Prints Markdown tables, writes a CSV and a plot.

With `--sweep` also more sites and more parameters, each case in a process of its own. Memory there
is the peak of resident memory (VmHWM, set back before the ring) over what was resident before it,
divided by the number of sites; updates lie on disk and do not count. The default sweep takes some
12 minutes of processor time, 8 of them for 32 sites with 24.4 M parameters; a case that is not done
after `--limit` seconds is given up.

    OMP_NUM_THREADS=1 python -m benchmarks.secure_aggregation --repeats 3 --sweep
"""

import argparse
import csv
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.secure_baselines import (
    Outcome,
    Problem,
    make_update,
    nvflare,
    paper,
    site_names,
    unet_layout,
)
from lightning_fl.aggregation import Aggregate, CyclicCKKS, Updates
from lightning_fl.aggregation.fixed_point import MARGIN, exponents_for
from lightning_fl.aggregation.ring_parameters import choose, is_compact
from lightning_fl.channel import Channel
from lightning_fl.engines import Local
from lightning_fl.errors import ConfigError
from lightning_fl.messages import Message
from lightning_fl.monitor import Monitor
from lightning_fl.parameters import Layout
from lightning_fl.records import CostRow
from lightning_fl.site_store import SiteStore
from lightning_fl.transport import Transport

ROOT = Path(__file__).resolve().parents[1]
COMPACT_BITS, WIDE_BITS = 16, 24
RUN = "benchmark"
FILTERS = {16.0: "1.94 M", 56.75: "24.4 M"}
"""Filters of the U-Net's first level in the sweep, and the parameters it then has."""
MEMORY_TARGET = 3.0
"""Most memory of a ring for each site, in float32 updates."""
PARTS = ("keys", "encode", "encrypt", "add", "decrypt", "frames", "coordinator")


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


# ---------------------------------------------------------------------- our ring


class RingSite:
    """A site that has trained: its update lies in its folder, as a real site's does.

    Args:
        name: of the site.
        aggregator: whose operations it answers.
        layout: of the update.
        samples: training samples.
        folder: the site's own.
    """

    def __init__(
        self, name: str, aggregator: CyclicCKKS, layout: Layout, samples: int, folder: Path
    ) -> None:
        self.name = name
        self.layout = layout
        self._samples = samples
        self._store = SiteStore(folder / name)
        self._operations = aggregator.site_operations(self)

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """A part of the update."""
        return self._store.update(round_, start, stop)

    def samples(self) -> int:
        """Training samples."""
        return self._samples

    def carry(self, round_: int) -> Tensor | None:
        """What earlier rounds left out."""
        return self._store.carry(round_)

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what this round leaves out."""
        self._store.save_carry(round_, carry)

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation of the ring."""
        message = Message.decode(payload)
        answer = self._operations[op](message)
        return Message(
            run=message.run,
            round=message.round,
            sender=self.name,
            step=message.step,
            info=answer.info,
            tensors=answer.tensors,
            recipient=answer.recipient,
            ring=message.ring,
            context=answer.context,
        ).encode()


@dataclass
class Meter:
    """Adds up the rows of a channel.

    Attributes:
        bytes_up: sent by all sites.
        clock: seconds by part.
        peak: largest resident memory by the end of the blocks' way round, in bytes.
    """

    bytes_up: int = 0
    clock: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak: int = 0

    def on_cost(self, row: CostRow) -> None:
        """One operation of a site, or a part of one."""
        operation, _, part = row.operation.partition(": ")
        self.bytes_up += row.bytes_up
        self.clock[part or "frames"] += row.seconds
        if operation == "ring_pass":
            self.peak = resident("VmHWM")


def run_ring(
    aggregator: CyclicCKKS, updates: Updates, folder: Path, meter: Meter
) -> tuple[Aggregate, Outcome]:
    """One aggregation by the sites whose updates lie in `folder`."""

    def make_site(name: str) -> RingSite:
        return RingSite(name, aggregator, updates.layout, updates.samples[name], folder)

    def coordinate(transport: Transport) -> tuple[Aggregate, Outcome]:
        channel = Channel(
            transport,
            run=RUN,
            timeout=3600.0,
            on_cost=meter.on_cost,
            on_message=lambda row: None,
            monitor=Monitor(),
        )
        clock, cpu = time.perf_counter(), time.process_time()
        aggregate = aggregator.mean(channel, updates)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        meter.clock["coordinator"] = clock - sum(meter.clock.values())
        # the rows tell time on the clock, which other programs on the machine stretch
        parts = {part: meter.clock[part] * cpu / clock for part in PARTS}
        clipped = aggregate.facts.get("clipped", 0)
        return aggregate, Outcome(aggregate.mean, cpu, meter.bytes_up, clipped, parts)

    return Local().run(coordinate, make_site, list(updates.samples))


def ring(problem: Problem, bits: int) -> Outcome:
    """One round of our ring; on the compact grid one that has a round before it."""
    aggregator = CyclicCKKS(bits=bits)
    memory: Mapping[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in (1, 2) if aggregator.compact else (2,):
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


# ---------------------------------------------------------------------- the sweep


@dataclass(frozen=True)
class Case:
    """What one ring of the sweep took.

    Attributes:
        sites: in the ring.
        parameters: of the network.
        bits: of the ring.
        cpu_s: processor seconds of all parties together.
        bytes_up: sent by all sites together.
        error: largest absolute error of the mean.
        sites_peak: peak memory until the last block has gone round, over what there was before.
        whole_peak: peak memory to the end, with the coordinator's mean.
    """

    sites: int
    parameters: int
    bits: int
    cpu_s: float
    bytes_up: int
    error: float
    sites_peak: int
    whole_peak: int

    @property
    def nanoseconds(self) -> float:
        """Of processor time, for a parameter and a site."""
        return 1e9 * self.cpu_s / self.parameters / self.sites

    @property
    def memory(self) -> float:
        """Peak memory of a site, in float32 updates."""
        return self.sites_peak / (4 * self.parameters * self.sites)

    def row(self) -> str:
        """A row of the Markdown table."""
        verdict = "met" if self.memory <= MEMORY_TARGET else "MISSED"
        return (
            f"| {self.sites} | {self.parameters / 1e6:.2f} M | {self.bits} | {self.cpu_s:.1f} "
            f"| {self.cpu_s / self.sites:.2f} "
            f"| {self.nanoseconds:.0f} "
            f"| {self.bytes_up / self.parameters / self.sites:.2f} | {self.error:.1e} "
            f"| {self.memory:.2f} {verdict} "
            f"| {self.whole_peak / (4 * self.parameters * self.sites):.2f} |"
        )


SWEEP_HEAD = f"""
| sites | parameters | bits | CPU, s | CPU s a site | ns a parameter and site | bytes a parameter \
and site | largest error | memory a site, in updates (aim {MEMORY_TARGET:g}) | with the \
coordinator's mean |
|---|---|---|---|---|---|---|---|---|---|
"""


def resident(field_: str) -> int:
    """A field of /proc/self/status, in bytes; "VmRSS" is now and "VmHWM" the peak. Linux only."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field_}:\s+(\d+) kB", text)
    return 1024 * int(found[1]) if found else 0


def forget_peak() -> int:
    """Give free memory back, set the peak to what is resident now, and return that."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def fitting_bits(sites: int) -> int:
    """The most compact bits, up to 16, that so many sites can have."""
    for bits in range(COMPACT_BITS, 0, -1):
        try:
            choose(bits, sites)
        except ConfigError:
            continue
        return bits
    raise ValueError(f"No compact ring of {sites} sites exists.")


def prepare(folder: Path, layout: Layout, sites: int, bits: int) -> tuple[Tensor, dict[str, Any]]:
    """What the sites have on disk in round 2, the mean that it should give, and the memory.

    All sites share the files of one, for the sake of the disk; neither time nor memory of a ring
    depends on the values.
    """
    first, *others = (folder / name for name in site_names(sites))
    update, memory = make_update(layout, first.name), {}
    SiteStore(first).save_update(2, update)
    if is_compact(bits):
        tensors = torch.split(update, [torch.Size(shape).numel() for _, shape in layout.shared])
        memory = {"ranges": [MARGIN * float(tensor.abs().max()) for tensor in tensors]}
        finest = min(exponents_for(memory["ranges"], choose(bits, sites).limit))
        carry = torch.rand(layout.length).sub(0.5).mul(2.0**finest)
        SiteStore(first).save_carry(1, carry)
        update = update + carry
    for other in others:
        other.mkdir()
        for file in first.iterdir():
            os.link(file, other / file.name)
    return update, memory


def run_case(folder: Path, layout: Layout, sites: int, bits: int) -> Case:
    """One ring; what is resident before it does not count."""
    aggregator = CyclicCKKS(bits=bits)
    expected, memory = prepare(folder, layout, sites, bits)
    samples = dict.fromkeys(site_names(sites), 100)
    updates = Updates(2, samples, layout, memory=memory)
    meter, before = Meter(), forget_peak()
    _, outcome = run_ring(aggregator, updates, folder, meter)
    whole = resident("VmHWM") - before
    return Case(
        sites=sites,
        parameters=layout.length,
        bits=bits,
        cpu_s=outcome.cpu_s,
        bytes_up=outcome.bytes_up,
        error=float((outcome.mean - expected).abs().max()),
        sites_peak=meter.peak - before,
        whole_peak=whole,
    )


def be_case(sites: int, bits: int, filters: float) -> Case:
    """Run a case in this process, once a tiny ring has loaded the libraries."""
    cases = []
    for layout in (Layout((("w", (1000,)),), ()), unet_layout(filters)):
        with tempfile.TemporaryDirectory() as folder:
            cases.append(run_case(Path(folder), layout, sites, bits))
    return cases[-1]


def child(sites: int, bits: int, filters: float, limit: float) -> Case | None:
    """A case in a process of its own; None where it took longer than `limit` seconds."""
    case = [str(value) for value in (sites, bits, filters)]
    command = [sys.executable, "-m", "benchmarks.secure_aggregation", "--case", *case]
    with tempfile.TemporaryDirectory() as folder:  # so that a child that is stopped leaves nothing
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": folder},
                capture_output=True,
                text=True,
                check=False,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    return Case(**json.loads(done.stdout.splitlines()[-1]))


def plot_sweep(path: Path, cases: Sequence[Case]) -> None:
    """A line for each network and grid: processor time and memory of a site."""
    lines: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kind = "compact" if is_compact(case.bits) else "wide"
        lines[f"{case.parameters / 1e6:.2f} M, {kind}"].append(case)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        for label, own in lines.items():
            sites = [case.sites for case in own]
            left.plot(sites, [case.nanoseconds for case in own], "o-", label=label)
            right.plot(sites, [case.memory for case in own], "o-", label=label)
        right.axhline(MEMORY_TARGET, color="grey", linestyle=":")
        left.set(xlabel="sites", ylabel="CPU, ns a parameter and site", ylim=0)
        right.set(xlabel="sites", ylabel="memory a site, in updates", ylim=0)
        left.legend(frameon=False)
        figure.savefig(path, dpi=150)


def sweep(options: argparse.Namespace) -> list[Case]:
    """Every case in turn, small networks first; each row is printed as soon as it is there."""
    sys.stdout.write(SWEEP_HEAD)
    cases: list[Case] = []
    for filters, size in FILTERS.items():
        for sites in options.sites:
            for bits in (fitting_bits(sites), WIDE_BITS):
                case = child(sites, bits, filters, options.limit)
                late = f"| {sites} | {size} | {bits} | more than {options.limit:.0f} s |"
                sys.stdout.write((case.row() if case else late) + "\n")
                sys.stdout.flush()
                cases.extend([case] if case else [])
                write_csv(options.output / "sweep.csv", [asdict(case) for case in cases])
    return cases


# ---------------------------------------------------------------------- output


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row for each mapping; nothing where there is none."""
    if not rows:
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def flat(trial: Trial) -> dict[str, Any]:
    """A trial as a row of the CSV: a column for each part, empty where it is not known."""
    *columns, _ = astuple(trial)
    names = ("way", "repetition", "cpu_s", "bytes_up", "error", "rms", "clipped")
    parts = {f"{part}_s": trial.parts.get(part, "") for part in PARTS}
    return dict(zip(names, columns, strict=True)) | parts


def parse() -> argparse.Namespace:
    """The command line; `--case` is for the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way; 0 for none")
    parser.add_argument("--sweep", action="store_true", help="also more sites and parameters")
    parser.add_argument("--sites", nargs="+", type=int, default=[3, 8, 32], help="of the sweep")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of a sweep's case")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-secure-aggregation"))
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare, sweep if asked to, print the tables; or be one of the sweep's processes."""
    options = parse()
    if options.case:
        sites, bits, filters = options.case
        sys.stdout.write(json.dumps(asdict(be_case(int(sites), int(bits), float(filters)))) + "\n")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    if options.repeats:
        problem = Problem.make(unet_layout(min(FILTERS)), 3)
        trials = compare(problem, options.repeats)
        write_csv(options.output / "comparison.csv", [flat(trial) for trial in trials])
        plot_comparison(options.output / "comparison.png", trials, problem)
        tables = (table(trials, problem), parts_table(trials), aims_table(trials))
        sys.stdout.write("\n\n".join(tables) + "\n")
    cases = sweep(options) if options.sweep else []
    if cases:
        plot_sweep(options.output / "sweep.png", cases)


if __name__ == "__main__":
    main()
