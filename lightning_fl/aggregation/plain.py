"""Plain: sites send their updates in the clear; for comparison and debugging."""

from collections.abc import Mapping
from typing import Any

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
from lightning_fl.errors import SiteError
from lightning_fl.privacy.release import Release
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import BLOCK_BYTES, Message, MessageError

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
        """Fetch and add up the updates; a site that fails is left out.

        Raises:
            TooFewSitesError: fewer than `updates.min_sites` sent theirs.
        """
        total = torch.zeros(updates.layout.length, dtype=torch.float64)
        lost: dict[str, SiteError] = {}
        weights: list[int] = []
        least = max(updates.min_sites, 1)
        updates.before_sum(sorted(updates.samples), least)
        for site, samples in sorted(updates.samples.items()):
            told = self._told(updates, site)
            update = self._fetch(channel, updates.round, site, updates.layout.length, told)
            if isinstance(update, SiteError):
                lost[site] = update
                continue
            weights.append(self.weight(samples))
            total.add_(update.double(), alpha=weights[-1])
        require(len(weights), least, updates.round, lost)
        return Aggregate((total / sum(weights)).float(), lost)

    def _told(self, updates: Updates, site: str) -> dict[str, Any]:
        """What a site needs to know to clip its update and to add its share of the noise."""
        if self.noise is None:
            return {}
        weights = {name: self.weight(samples) for name, samples in updates.samples.items()}
        return {"weight": weights[site] / max(weights.values()), "sites": len(weights)}

    def _fetch(
        self, channel: Channel, round_: int, site: str, length: int, told: dict[str, Any]
    ) -> Tensor | SiteError:
        blocks: list[Tensor] = []
        for step, start in enumerate(range(0, length, BLOCK)):
            message = channel.message(round_, step=step, info=told)
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

    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """One operation, "update": a block of the site's update, as it is or with noise."""
        releases: dict[tuple[int, Any, Any], Release] = {}

        def private(message: Message, start: int, stop: int) -> Tensor:
            weight, sites = message.info.get("weight"), message.info.get("sites")
            key = (message.round, weight, sites)
            if key not in releases:  # asked again, a site answers with the same noise
                releases.clear()
                releases[key] = self._release(site, message.round, weight, sites)
            return torch.from_numpy(releases[key].unweighted(start, stop)).float()

        def update(message: Message) -> Answer:
            start = message.step * BLOCK
            stop = min(start + BLOCK, site.layout.length)
            if self.noise is not None:
                return Answer({}, {"update": private(message, start, stop)})
            return Answer({}, {"update": site.update(message.round, start, stop)})

        return {"update": update}

    def _release(self, site: HoldsUpdate, round_: int, weight: Any, sites: Any) -> Release:
        """The site's part, as it was told to make it."""
        if self.noise is None or type(weight) is not float or type(sites) is not int:
            raise MessageError(
                f"Expected a weight and a number of sites, but got {weight}, {sites}."
            )
        if not 0 < weight <= 1:
            raise MessageError(f"Expected a relative weight in (0, 1], but got {weight}.")

        def update(start: int, stop: int) -> Tensor:
            return site.update(round_, start, stop)

        return Release(self.noise, update, site.layout.length, weight=weight, sites=sites)
