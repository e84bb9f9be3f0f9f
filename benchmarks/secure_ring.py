"""One secure aggregation without training: sites with an update on disk, and what it takes."""

import csv
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.secure_baselines import (
    Outcome,
)
from lightning_fl.aggregation import Aggregate, CyclicCKKS, Updates
from lightning_fl.engines import Local
from lightning_fl.site.store import SiteStore
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.records import CostRow
from lightning_fl.wire.transport import Transport

RUN = "benchmark"
PARTS = ("keys", "encode", "encrypt", "add", "decrypt", "frames", "coordinator")
"""Of the time of a ring; "frames" is a site's time outside the others, "coordinator" the rest."""


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


def resident(field_: str) -> int:
    """A field of /proc/self/status, in bytes; "VmRSS" is now and "VmHWM" the peak. Linux only."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field_}:\s+(\d+) kB", text)
    return 1024 * int(found[1]) if found else 0


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


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row for each mapping; nothing where there is none."""
    if not rows:
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
