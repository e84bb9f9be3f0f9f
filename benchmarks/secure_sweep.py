"""Processor time, bytes and memory of the secure ring for more sites and more parameters.

Each ring is made in a process of its own. Memory is the peak of resident memory (VmHWM, set back
before the ring) over what was resident before it, divided by the number of sites; updates lie on
disk and do not count. The default takes some 12 minutes of processor time, 8 of them for 32 sites
with 24.4 M parameters; a ring that is not done after `--limit` seconds is given up. Linux only.
Prints a Markdown table, writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.secure_sweep
"""

import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.fresh_process import forget_peak, in_fresh_process, memory
from benchmarks.printing import Row, command_line, save, say_table
from benchmarks.secure_baselines import make_update, site_names, unet_layout
from benchmarks.secure_ring import Meter, run_ring
from lightning_fl.aggregation import CyclicCKKS, Updates
from lightning_fl.aggregation.ring.fixed_point import MARGIN, exponents_for
from lightning_fl.aggregation.ring.packing_parameters import choose, is_compact
from lightning_fl.errors import ConfigError
from lightning_fl.site.store import SiteStore
from lightning_fl.training.layout import Layout

COMPACT_BITS, WIDE_BITS = 16, 24
FILTERS = {16.0: "1.94 M", 56.75: "24.41 M"}
"""Filters of the U-Net's first level, and the parameters it then has."""
MEMORY_TARGET = 3.0
"""Most memory of a ring for each site, in float32 updates."""


class RingTrial(NamedTuple):
    """What one ring of the sweep took.

    Attributes:
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


def row(sites: int, size: str, bits: int, trial: RingTrial | None, limit: float) -> Row:
    """Return a row of the table; `trial` is None for a ring that was given up."""
    cells: dict[str, object] = {"sites": sites, "parameters": size, "bits": bits}
    if trial is None:
        return cells | {"CPU, s": f"more than {limit:.0f} s"}
    values = trial.parameters * sites
    used = trial.sites_peak / 4 / values
    return cells | {
        "CPU, s": f"{trial.cpu_s:.1f}",
        "CPU s a site": f"{trial.cpu_s / sites:.2f}",
        "ns a parameter and site": f"{1e9 * trial.cpu_s / values:.0f}",
        "bytes a parameter and site": f"{trial.bytes_up / values:.2f}",
        "largest error": f"{trial.error:.1e}",
        f"memory a site, in updates (aim {MEMORY_TARGET:g})": (
            f"{used:.2f} {'met' if used <= MEMORY_TARGET else 'MISSED'}"
        ),
        "with the coordinator's mean": f"{trial.whole_peak / 4 / values:.2f}",
    }


def fitting_bits(sites: int) -> int:
    """Return the most compact bits, up to 16, that so many sites can have."""
    for bits in range(COMPACT_BITS, 0, -1):
        try:
            choose(bits, sites)
        except ConfigError:
            continue
        return bits
    raise ValueError(f"No compact ring of {sites} sites exists.")


def prepare(folder: Path, layout: Layout, sites: int, bits: int) -> tuple[Tensor, dict[str, Any]]:
    """Put on disk what the sites have in round 2; return their mean, and the ring's memory.

    All sites share the files of one, for the sake of the disk; neither time nor memory of a ring
    depends on the values.
    """
    first, *others = (folder / name for name in site_names(sites))
    update, memory_of_ring = make_update(layout, first.name), {}
    SiteStore(first).save_update(2, update, "first weights")
    if is_compact(bits):
        tensors = torch.split(update, [torch.Size(shape).numel() for _, shape in layout.shared])
        ranges = [MARGIN * float(tensor.abs().max()) for tensor in tensors]
        memory_of_ring = {"ranges": ranges}
        finest = min(exponents_for(ranges, choose(bits, sites).limit))
        carry = torch.rand(layout.length).sub(0.5).mul(2.0**finest)
        SiteStore(first).save_carry(1, carry)
        update = update + carry
    for other in others:
        other.mkdir()
        for file in first.iterdir():
            os.link(file, other / file.name)
    return update, memory_of_ring


def run_trial(folder: Path, layout: Layout, sites: int, bits: int) -> RingTrial:
    """Make one ring; what is resident before it does not count."""
    aggregator = CyclicCKKS(bits=bits)
    expected, memory_of_ring = prepare(folder, layout, sites, bits)
    samples = dict.fromkeys(site_names(sites), 100)
    updates = Updates(2, samples, layout, memory=memory_of_ring)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives free memory back
    meter, before = Meter(), forget_peak()
    _, result = run_ring(aggregator, updates, folder, meter)
    whole = memory("VmHWM") - before
    return RingTrial(
        sites=sites,
        parameters=layout.length,
        bits=bits,
        cpu_s=result.cpu_s,
        bytes_up=result.bytes_up,
        error=float((result.mean - expected).abs().max()),
        sites_peak=meter.peak - before,
        whole_peak=whole,
    )


def warm_trial(folder: Path, sites: int, bits: int, filters: float) -> RingTrial:
    """Make a ring once a tiny one has loaded the libraries."""
    tempfile.tempdir = str(folder)  # so that a process that is ended leaves nothing
    run_trial(folder / "tiny", Layout((("w", (1000,)),), ()), sites, bits)
    return run_trial(folder / "real", unet_layout(filters), sites, bits)


def sweep(sites: Sequence[int], limit: float, trials: list[RingTrial]) -> Iterator[Row]:
    """Make every ring in turn, small networks first; yield its row and keep its numbers."""
    for filters, count in product(FILTERS, sites):
        for bits in (fitting_bits(count), WIDE_BITS):
            trial = None
            with tempfile.TemporaryDirectory() as folder:
                try:
                    trial = in_fresh_process(
                        warm_trial, Path(folder), count, bits, filters, limit=limit
                    )
                    trials.append(trial)
                except TimeoutError:
                    pass
            yield row(count, FILTERS[filters], bits, trial, limit)


def main() -> None:
    """Sweep, print each row as soon as it is there, and save the numbers."""
    parser = command_line(__doc__, "secure_sweep")
    parser.add_argument("--sites", nargs="+", type=int, default=[3, 8, 32])
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of a ring")
    options = parser.parse_args()
    trials: list[RingTrial] = []
    say_table(sweep(options.sites, options.limit, trials))
    save(options.csv, [trial._asdict() for trial in trials])


if __name__ == "__main__":
    main()
