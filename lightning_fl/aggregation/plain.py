"""Plain: sites send their updates in the clear; for comparison and debugging."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_fl.aggregation.base import (
    Aggregate,
    Aggregator,
    Answer,
    HoldsUpdate,
    SiteOperation,
    Updates,
    require,
)
from lightning_fl.channel import Channel
from lightning_fl.errors import SiteError
from lightning_fl.messages import BLOCK_BYTES, Message

BLOCK = BLOCK_BYTES // 4
"""float32 values in a block."""


class Plain(Aggregator):
    """Weighted mean of updates that the coordinator sees in the clear.

    Sums in float64, in sorted order of the sites, so that the result does not depend on who
    answers first. One site's update is held at a time.

    Args:
        weights: "samples" or "equal".
    """

    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """Fetch and add up the updates; a site that fails is left out.

        Raises:
            TooFewSitesError: fewer than `updates.min_sites` sent theirs.
        """
        total = torch.zeros(updates.layout.length, dtype=torch.float64)
        lost: dict[str, SiteError] = {}
        weights: list[int] = []
        for site, samples in sorted(updates.samples.items()):
            update = self._fetch(channel, updates.round, site, updates.layout.length)
            if isinstance(update, SiteError):
                lost[site] = update
                continue
            weights.append(self.weight(samples))
            total.add_(update.double(), alpha=weights[-1])
        require(len(weights), max(updates.min_sites, 1), updates.round, lost)
        return Aggregate((total / sum(weights)).float(), lost)

    def _fetch(self, channel: Channel, round_: int, site: str, length: int) -> Tensor | SiteError:
        blocks: list[Tensor] = []
        for step, start in enumerate(range(0, length, BLOCK)):
            answer = channel.ask("update", {site: channel.message(round_, step=step)})[site]
            if isinstance(answer, SiteError):
                return answer
            block = answer.tensors.get("update", torch.zeros(0))
            expected = min(BLOCK, length - start)
            if block.shape != (expected,) or not bool(torch.isfinite(block).all()):
                detail = f"block {step} is not {expected} finite values but {tuple(block.shape)}"
                return SiteError(site, "update", "failed", detail)
            blocks.append(block)
        return torch.cat(blocks)

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """One operation, "update": a block of the site's update as it is."""

        def update(message: Message) -> Answer:
            start = message.step * BLOCK
            stop = min(start + BLOCK, site.layout.length)
            return Answer({}, {"update": site.update(message.round, start, stop)})

        return {"update": update}
