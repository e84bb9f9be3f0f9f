"""Make a site's integers for one ring: its weighted update on the grid, then its counts."""

from functools import partial

import numpy as np
import torch

from lightning_fl.aggregation.base import HoldsUpdate
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers, to_limbs
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.errors import OutOfRangeError
from lightning_fl.privacy.release import Release, norm_of


class Contribution:
    """Turn a site's update into integers, block by block and in order.

    Args:
        site: holds the update.
        round_: of the update.
        plan: of the ring.
        weight: the site's relative weight, in (0, 1].
        error_feedback: whether what clipping and rounding leave out is added to the update of the
            next round (Seide et al., Interspeech 2014); else a value outside the grid is an error.
        release: the update with its noise; None without noise.
        max_norm: to which a longer update is scaled down; None for no bound.
    """

    def __init__(
        self,
        site: HoldsUpdate,
        round_: int,
        plan: RingPlan,
        *,
        weight: float,
        error_feedback: bool,
        release: Release | None = None,
        max_norm: float | None = None,
    ) -> None:
        self.site = site
        self.round = round_
        self.plan = plan
        self.weight = weight
        self.clipped = 0
        self._carry: torch.Tensor | None = None
        self._release = release
        self.factor = 1.0
        if max_norm is not None:
            norm = norm_of(partial(site.update, round_), plan.length)
            self.factor = max_norm / norm if norm > max_norm else 1.0
        if error_feedback:
            before = site.carry(round_ - 1)
            self._carry = torch.zeros(plan.length) if before is None else before

    def integers(self, block: int) -> Integers:
        """Return a block's integers; each block is asked for once, from block 0 on.

        Raises:
            OutOfRangeError: a value lies outside the grid and there is no error feedback.
        """
        start, stop = self.plan.span(block)
        end = min(stop, self.plan.length)
        integers = self._of_update(start, end) if start < end else np.zeros(0, dtype=np.int64)
        if block == self.plan.blocks - 1 and self._carry is not None:
            self.site.save_carry(self.round, self._carry)
        if stop > self.plan.length:  # the block holds (some of) the counts
            counts = self._counts()[max(start - self.plan.length, 0) : stop - self.plan.length]
            integers = np.concatenate([integers, counts])
        return integers

    def _of_update(self, start: int, end: int) -> Integers:
        values = self._values(start, end)
        integers, clipped = self.plan.grid.to_integers(values, start)
        if clipped and self._carry is None:
            self._refuse(values, start)
        self.clipped += clipped
        if self._carry is not None:
            left = (values - self.plan.grid.to_values(integers, start)) / self.weight
            self._carry[start:end] = torch.from_numpy(left).float()
        return integers

    def _values(self, start: int, end: int) -> Floats:
        if self._release is not None:
            return self._release.weighted(start, end)
        update: Floats = self.site.update(self.round, start, end).double().numpy()
        if self._carry is not None:
            update = update + self._carry[start:end].double().numpy()
        return update * (self.factor * self.weight)

    def _counts(self) -> Integers:
        counts = {"sites": 1, "clipped": self.clipped, "samples": self.site.samples()}
        counts["bounded"] = int(self.factor < 1)
        return np.concatenate([to_limbs(counts[name]) for name in self.plan.counts])

    def _refuse(self, values: Floats, start: int) -> None:
        where = start + int(np.argmax(self.plan.grid.outside(values, start)))
        ends = np.cumsum([int(np.prod(shape)) for _, shape in self.site.layout.shared])
        name = self.site.layout.shared[int(np.searchsorted(ends, where, side="right"))][0]
        reach = self.plan.grid.limit * float(self.plan.grid.steps(where, where + 1)[0])
        # the value itself is not named: errors travel to the coordinator
        raise OutOfRangeError(
            f"the update of {name!r} has a value outside the fixed-point grid, which ends at "
            f"{reach:.4g}. Normalise the images or lower the learning rate; for BatchNorm "
            "statistics set `algorithm.batch_norm: local` with `shared_rounds: 0`, or fewer `bits`."
        )
