"""Average all layers in the first rounds, and keep the last ones at the sites later."""

import copy
from collections.abc import Sequence
from typing import Any, Self

from lightning_fl.algorithms.base import Algorithm
from lightning_fl.algorithms.server import ServerOptimizer
from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import BatchNormPolicy


class LateLocal(Algorithm):
    """FedAvg whose last layers and BatchNorm turn local half-way; ours.

    In rounds 1 to s it is FedAvg (McMahan et al. 2017, arXiv 1602.05629). From round s + 1 on what
    `personal` names and all BatchNorm stay at each site, as in FedPer (Arivazhagan et al. 2019,
    arXiv 1912.00818) and FedBN (Li et al. 2021, arXiv 2102.07623), but begin with weights that
    all sites have trained together: a site with few patients does not have to learn its head from
    nothing. These layers keep travelling with the update, so that a hospital that never trains gets
    their mean: whoever may see an update sees them.

    It is FedAvg with `batch_norm: local`, `personal` and `shared_rounds: s`; the class gives it its
    name and takes s from the number of rounds. docs/results.md compares it.

    Args:
        share: part of the run's rounds in which all layers are averaged, between 0 and 1, both
            left out; s = round(share * rounds), at least 1 and at least one round before the last.
        shared_rounds: s itself; null takes it from `share`. The config.yaml of a run has the
            number, so a run that goes on with more rounds keeps its s.
        personal: layers that stay at the site later, by name or pattern; see `Algorithm`.
        batch_norm: "local", or "average" to leave BatchNorm out.
        server: see `Algorithm`.

    Raises:
        ConfigError: `share` is not between 0 and 1, or `shared_rounds` not at least 1.
    """

    def __init__(
        self,
        share: float = 0.5,
        *,
        shared_rounds: int | None = None,
        personal: Sequence[str] = ("last_decoder_block", "segmentation_head"),
        batch_norm: BatchNormPolicy = "local",
        server: ServerOptimizer | None = None,
    ) -> None:
        if shared_rounds is not None and shared_rounds < 1:
            raise ConfigError(
                f"Expected `shared_rounds` to be at least 1 or null, but got {shared_rounds}."
            )
        super().__init__(
            batch_norm=batch_norm,
            personal=personal,
            shared_rounds=shared_rounds or 1,
            server=server,
        )
        if not 0 < share < 1:
            raise ConfigError(
                f"Expected `share` to lie between 0 and 1, but got {share}. With 0 it would be "
                "FedPer with local BatchNorm, with 1 FedAvg."
            )
        self.share = share
        self._is_decided = shared_rounds is not None

    def for_rounds(self, rounds: int) -> Self:
        """Return a copy with its s; in a run of a single round nothing turns local."""
        planned = copy.copy(self)
        if not self._is_decided:
            planned.shared_rounds = min(max(1, round(self.share * rounds)), max(1, rounds - 1))
            planned._is_decided = True
        return planned

    def decided(self) -> dict[str, Any]:
        """Return s."""
        return {"shared_rounds": self.shared_rounds}
