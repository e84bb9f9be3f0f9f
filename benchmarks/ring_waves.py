"""The ring's blocks on their way, with sites that only take their time: each has its own core.

The coordinator's half is the real one and relays blocks of the real size. The sites of a wave sleep
together for a fixed time, so wall time is what the waves and the relaying make of it.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.printing import Row
from benchmarks.secure_ring import silent_channel
from lightning_fl.aggregation.ring.ring import Ring
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.aggregation.ring.ring_settings import RingSettings
from lightning_fl.training.layout import Layout
from lightning_fl.wire.messages import HEAD, Message
from lightning_fl.wire.transport import Outcomes, Reply, Transport

RUN, RING = "waves", "ring"
BLOCK_BYTES = 2**20
VALUES = 1_940_000
"""Of an update."""
REPEATS = 3
LARGEST_GROWTH = 0.15
"""Wall time of six sites should be above that of three by less than this share."""


class Waves(NamedTuple):
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
        self._order = tuple(order)
        self._delay = delay
        self._answers = {
            (site, step, ahead): _answer(site, following, step, ahead)
            for site, following in zip(order, [*order[1:], order[0]], strict=True)
            for step in range(blocks)
            for ahead in (True, False)
        }

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites."""
        return self._order

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Let all sites work at the same time, each for the same time."""
        time.sleep(self._delay)
        for site, payload in payloads.items():
            frame = _frame(payload)
            answer = self._answers[site, frame["step"], bool(frame["info"])]
            yield site, Reply(answer, self._delay)


def _answer(site: str, following: str, step: int, ahead: bool) -> bytes:
    """Return a block of the real size for the next site; nothing where it is encrypted ahead."""
    size = 0 if ahead else BLOCK_BYTES
    tensors = {"sums": torch.zeros(size, dtype=torch.uint8)}
    return Message(
        run=RUN, round=1, sender=site, step=step, tensors=tensors, recipient=following, ring=RING
    ).encode()


def _frame(payload: bytes) -> dict[str, Any]:
    """Return what is written on a message, without a look at the block in it."""
    body = memoryview(payload)[HEAD:]
    length = int.from_bytes(body[:8], "little")
    header = json.loads(bytes(body[8 : 8 + length]))
    frame: dict[str, Any] = json.loads(header["__metadata__"]["frame"])
    return frame


def time_waves(sites: int, delay: float) -> Waves:
    """Let all blocks of an update go round, a few times; medians."""
    plan = RingSettings().plan(sites, Layout((("weights", (VALUES,)),), ()), None)
    once = partial(_go_round, tuple(f"site{number}" for number in range(sites)), plan)
    relay, measured = (median(once(d) for _ in range(REPEATS)) for d in (0.0, delay))
    predicted = (plan.blocks + sites - 1) * delay
    return Waves(sites, plan.blocks, delay, predicted, relay, measured)


def _go_round(order: tuple[str, ...], plan: RingPlan, delay: float) -> float:
    """Return the seconds for all blocks."""
    channel = silent_channel(Sleepers(order, plan.blocks, delay), RUN)
    ring = Ring(channel, 1, order, plan, {}, name=RING)
    start = time.perf_counter()
    for _ in ring._blocks():  # only the way of the blocks is of interest, not their content
        pass
    return time.perf_counter() - start


def waves_rows(waves: Sequence[Waves]) -> Iterator[Row]:
    """Yield a row for each number of sites."""
    fewest = waves[0]
    for ring in waves:
        yield {
            f"sites, {ring.delay_s * 1000:g} ms a block": ring.sites,
            "blocks": ring.blocks,
            "waves, s": f"{ring.predicted_s:.2f}",
            "relaying, s": f"{ring.relay_s:.2f}",
            "measured, s": f"{ring.measured_s:.2f}",
            "growth of waves": f"{ring.predicted_s / fewest.predicted_s - 1:+.1%}",
            f"measured growth (aim below {LARGEST_GROWTH:.0%})": (
                f"{ring.measured_s / fewest.measured_s - 1:+.1%}"
            ),
        }
