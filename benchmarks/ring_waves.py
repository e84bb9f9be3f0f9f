"""The ring's blocks on their way, with sites that only take their time: each has its own core.

The coordinator's half is the real one and relays blocks of the real size. The sites of a wave sleep
together for a fixed time, so wall time is what the waves and the relaying make of it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

from lightning_fl.aggregation.ring.ring import Ring
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import HEAD, Message
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Outcomes, Reply, Transport

RUN, RING = "waves", "ring"
BLOCK_BYTES = 2**20
MOST = 1.15
"""Wall time of six sites over that of three should be below this."""


@dataclass(frozen=True)
class Waves:
    """One way of all blocks round the ring.

    Attributes:
        sites: in the ring.
        blocks: that go round.
        delay_s: seconds that a site takes for one.
        predicted_s: (blocks + sites - 1) waves of that time.
        relay_s: what sites that take no time would need, since one coordinator relays for all.
        measured_s: both.
    """

    sites: int
    blocks: int
    delay_s: float
    predicted_s: float
    relay_s: float
    measured_s: float


class Sleepers(Transport):
    """Sites of a ring that only wait, all at once; what they will answer is made beforehand."""

    def __init__(self, order: Sequence[str], blocks: int, delay: float) -> None:
        self._delay = delay
        self._answers = {
            (site, step, ahead): _answer(site, following, step, ahead)
            for site, following in zip(order, [*order[1:], order[0]], strict=True)
            for step in range(blocks)
            for ahead in (True, False)
        }

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """All sites work at the same time, each for the same time."""
        time.sleep(self._delay)
        frames = {site: _frame(payload) for site, payload in payloads.items()}
        for site, f in frames.items():
            yield site, Reply(self._answers[site, f["step"], bool(f["info"])], self._delay)


def _answer(site: str, following: str, step: int, ahead: bool) -> bytes:
    """A block of the real size for the next site; nothing where one is only encrypted ahead."""
    size = 0 if ahead else BLOCK_BYTES
    tensors = {"sums": torch.zeros(size, dtype=torch.uint8)}
    return Message(
        run=RUN, round=1, sender=site, step=step, tensors=tensors, recipient=following, ring=RING
    ).encode()


def _frame(payload: bytes) -> dict[str, Any]:
    """What is written on a message, without a look at the block in it."""
    body = memoryview(payload)[HEAD:]
    length = int.from_bytes(body[:8], "little")
    frame: dict[str, Any] = json.loads(
        json.loads(bytes(body[8 : 8 + length]))["__metadata__"]["frame"]
    )
    return frame


def time_waves(sites: int, values: int, delay: float, repeats: int = 3) -> Waves:
    """Let all blocks of an update go round, a few times; medians."""
    plan = RingSettings().plan(sites, Layout((("weights", (values,)),), ()), None)
    once = partial(_go_round, tuple(f"site{number}" for number in range(sites)), plan)
    relay, measured = (median(once(d) for _ in range(repeats)) for d in (0.0, delay))
    predicted = (plan.blocks + sites - 1) * delay
    return Waves(sites, plan.blocks, delay, predicted, relay, measured)


def _go_round(order: tuple[str, ...], plan: RingPlan, delay: float) -> float:
    """Seconds for all blocks."""
    channel = Channel(
        Sleepers(order, plan.blocks, delay),
        run=RUN,
        timeout=60.0,
        on_cost=lambda row: None,
        on_message=lambda row: None,
        monitor=Monitor(),
    )
    ring = Ring(channel, 1, order, plan, {}, name=RING)
    start = time.perf_counter()
    for _ in ring._blocks():  # only the way of the blocks is of interest, not their content
        pass
    return time.perf_counter() - start


def waves_table(waves: Sequence[Waves]) -> str:
    """Markdown: one row for each number of sites."""
    first = waves[0]
    lines = [
        f"| sites, {first.delay_s * 1000:g} ms a block | blocks | waves, s | relaying, s"
        f" | measured, s | growth of waves | measured growth (aim below {MOST - 1:.0%}) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in waves:
        growth = [one.predicted_s / first.predicted_s - 1, one.measured_s / first.measured_s - 1]
        lines.append(
            f"| {one.sites} | {one.blocks} | {one.predicted_s:.2f} | {one.relay_s:.2f} | "
            f"{one.measured_s:.2f} | "
            f"{growth[0]:+.1%} | {growth[1]:+.1%} |"
        )
    return "\n".join(lines)
