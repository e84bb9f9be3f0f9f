"""Average updates that sites send in the clear; for comparison and debugging."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_fl.aggregation.base import (
    Aggregate,
    Aggregator,
    HoldsUpdate,
    Updates,
    require_sites,
)
from lightning_fl.errors import SiteError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.release import Release
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import BLOCK_BYTES, Message, MessageError
from lightning_fl.wire.operations import Answer, SiteOperation

BLOCK = BLOCK_BYTES // 4
"""float32 values in a block."""


class Plain(Aggregator):
    """Weighted mean of updates that the coordinator sees in the clear.

    Sums in float64, in sorted order of the sites, so that the result does not depend on who
    answers first. One site's update is held at a time.

    Under site-level privacy sites are told their relative weight and how many they are; a site lost
    on the way takes its noise along, so the mean then has less of it.

    Args:
        weights: "samples" or "equal".
    """

    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """Fetch and add up the updates; a site that fails is left out."""
        total = torch.zeros(updates.layout.length, dtype=torch.float64)
        lost: dict[str, SiteError] = {}
        weights: list[int] = []
        least = max(updates.min_sites, 1)
        updates.before_sum(sorted(updates.samples), least)
        blocks = len(range(0, updates.layout.length, BLOCK)) * len(updates.samples)
        channel.monitor.on_operation(
            operation="update", round_=updates.round, total=blocks, unit="blocks"
        )
        for site, samples in sorted(updates.samples.items()):
            update = self._fetch(channel, updates, site)
            if isinstance(update, SiteError):
                lost[site] = update
                continue
            weights.append(self.weight(samples))
            total.add_(update.double(), alpha=weights[-1])
        require_sites(len(weights), least, updates.round, lost)
        return Aggregate((total / sum(weights)).float(), lost)

    def _fetch(self, channel: Channel, updates: Updates, site: str) -> Tensor | SiteError:
        info, length = self._instructions(updates, site), updates.layout.length
        blocks: list[Tensor] = []
        for step, start in enumerate(range(0, length, BLOCK)):
            message = channel.message(updates.round, step=step, info=info)
            answer = channel.ask("update", {site: message})[site]
            if isinstance(answer, SiteError):
                return answer
            block = answer.tensors.get("update", torch.zeros(0))
            expected = min(BLOCK, length - start)
            if block.shape != (expected,) or not bool(torch.isfinite(block).all()):
                detail = f"block {step} is not {expected} finite values but {tuple(block.shape)}"
                return SiteError(site, "update", "failed", detail)
            blocks.append(block)
        return torch.cat(blocks)

    def _instructions(self, updates: Updates, site: str) -> dict[str, Any]:
        """Tell a site what it needs to clip its update and to add its share of the noise."""
        if self.noise is None:
            return {}
        weights = {name: self.weight(samples) for name, samples in updates.samples.items()}
        return {"weight": weights[site] / max(weights.values()), "sites": len(weights)}

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """Return one operation, "update": a block of the site's update, as it is or with noise."""
        releases: dict[tuple[int, Any, Any], Release] = {}

        def update(message: Message) -> Answer:
            start = message.step * BLOCK
            stop = min(start + BLOCK, site.layout.length)
            if self.noise is None:
                return Answer({}, {"update": site.update(message.round, start, stop)})
            key = (message.round, message.info.get("weight"), message.info.get("sites"))
            if key not in releases:  # asked again, a site answers with the same noise
                releases.clear()
                releases[key] = _release(self.noise, site, *key)
            values = releases[key].unweighted(start, stop)
            return Answer({}, {"update": torch.from_numpy(values).float()})

        return {"update": update}


def _release(noise: SiteNoise, site: HoldsUpdate, round_: int, weight: Any, sites: Any) -> Release:
    """Make a site's part in a sum, by what the coordinator says of the sum."""
    if type(weight) is not float or type(sites) is not int:
        raise MessageError(f"Expected a weight and a number of sites, but got {weight}, {sites}.")
    if not 0 < weight <= 1:
        raise MessageError(f"Expected a relative weight in (0, 1], but got {weight}.")
    site.count_release(noise.left(sites, sites))
    update = partial(site.update, round_)
    return Release(noise, update, site.layout.length, weight=weight, sites=sites)
