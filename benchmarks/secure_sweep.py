"""Processor time, bytes and memory of the secure ring for more sites and more parameters.

Each case is a process of its own. Memory is the peak of resident memory (VmHWM, set back before the
ring) over what was resident before it, divided by the number of sites; updates lie on disk and do
not count. The default takes some 12 minutes of processor time, 8 of them for 32 sites with 24.4 M
parameters; a case that is not done after `--limit` seconds is given up. Linux only. Prints a
Markdown table, writes a CSV and a plot.

    OMP_NUM_THREADS=1 python -m benchmarks.secure_sweep
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.secure_baselines import (
    make_update,
    site_names,
    unet_layout,
)
from benchmarks.secure_ring import Meter, resident, run_ring, write_csv
from lightning_fl.aggregation import CyclicCKKS, Updates
from lightning_fl.aggregation.ring.fixed_point import MARGIN, exponents_for
from lightning_fl.aggregation.ring.packing_parameters import choose, is_compact
from lightning_fl.errors import ConfigError
from lightning_fl.site.store import SiteStore
from lightning_fl.training.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
COMPACT_BITS, WIDE_BITS = 16, 24
FILTERS = {16.0: "1.94 M", 56.75: "24.4 M"}
"""Filters of the U-Net's first level, and the parameters it then has."""
MEMORY_TARGET = 3.0
"""Most memory of a ring for each site, in float32 updates."""


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
    command = [sys.executable, "-m", "benchmarks.secure_sweep", "--case", *case]
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


def parse() -> argparse.Namespace:
    """The command line; `--case` is for the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", nargs="+", type=int, default=[3, 8, 32])
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of a case")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-secure-sweep"))
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Sweep and plot; or be one of the sweep's processes."""
    options = parse()
    if options.case:
        sites, bits, filters = options.case
        sys.stdout.write(json.dumps(asdict(be_case(int(sites), int(bits), float(filters)))) + "\n")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    cases = sweep(options)
    if cases:
        plot_sweep(options.output / "sweep.png", cases)


if __name__ == "__main__":
    main()
