"""One secure aggregation without training: sites with an update on disk, and what it takes."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from benchmarks.fresh_process import memory
from benchmarks.secure_baselines import MeasuredMean
from lightning_fl.aggregation import Aggregate, CyclicCKKS, Updates
from lightning_fl.engines import Local
from lightning_fl.site.store import SiteStore
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.operations import handle_message
from lightning_fl.wire.records import CostRow
from lightning_fl.wire.transport import Transport

PARTS = ("keys", "encode", "encrypt", "add", "decrypt", "frames", "coordinator")
"""Of the time of a ring; "frames" is a site's time outside the others, "coordinator" the rest."""
RUN = "benchmark"
"""Identifier of the run of every benchmark of the ring."""


def silent_channel(
    transport: Transport, run: str, on_cost: Callable[[CostRow], None] = lambda row: None
) -> Channel:
    """Return a channel that tells nobody but `on_cost` of what goes through it."""
    return Channel(
        transport,
        run=run,
        timeout=3600.0,
        on_cost=on_cost,
        on_message=lambda row: None,
        monitor=Monitor(),
    )


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
        self.folder: Path | None = None  # rings are remembered in memory
        self.least_sites = 1
        self._operations = aggregator.site_operations(self)

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """Return a part of the update."""
        return self._store.update(round_, start, stop)

    def samples(self) -> int:
        """Return the number of training samples."""
        return self._samples

    def origin(self, round_: int) -> str:
        """Return a digest that all sites have alike."""
        return "first weights"

    def is_drawn(self, site: str, round_: int) -> bool:
        """Let all sites train."""
        return True

    def count_release(self, noise_multiplier: float) -> None:
        """Hear of a release; there is no budget here."""

    def carry(self, round_: int) -> Tensor | None:
        """Return what earlier rounds left out."""
        return self._store.carry(round_)

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what this round leaves out."""
        self._store.save_carry(round_, carry)

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation of the ring."""
        return handle_message(self.name, RUN, self._operations, op, payload)


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
        """Add one operation of a site, or a part of one."""
        operation, _, part = row.operation.partition(": ")
        self.bytes_up += row.bytes_up
        self.clock[part or "frames"] += row.seconds
        if operation == "ring_pass":
            self.peak = memory("VmHWM")


def run_ring(
    aggregator: CyclicCKKS, updates: Updates, folder: Path, meter: Meter
) -> tuple[Aggregate, MeasuredMean]:
    """Aggregate once, by the sites whose updates lie in `folder`."""

    def make_site(name: str) -> RingSite:
        return RingSite(name, aggregator, updates.layout, updates.samples[name], folder)

    def coordinate(transport: Transport) -> tuple[Aggregate, MeasuredMean]:
        channel = silent_channel(transport, RUN, meter.on_cost)
        clock, cpu = time.perf_counter(), time.process_time()
        aggregate = aggregator.mean(channel, updates)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        meter.clock["coordinator"] = clock - sum(meter.clock.values())
        # the rows tell time on the clock, which other programs on the machine stretch
        parts = {part: meter.clock[part] * cpu / clock for part in PARTS}
        clipped = aggregate.facts.get("clipped", 0)
        return aggregate, MeasuredMean(aggregate.mean, cpu, meter.bytes_up, clipped, parts)

    return Local().run(coordinate, make_site, list(updates.samples))
