"""Ditto: beside the shared model each site trains one of its own, held near the shared one."""

from collections.abc import Sequence

import pytorch_lightning as pl

from lightning_fl.algorithms.base import Algorithm, check_one_optimizer
from lightning_fl.algorithms.fedprox import FedProx
from lightning_fl.algorithms.server import ServerOptimizer
from lightning_fl.batch_norm import BatchNormPolicy


class Ditto(Algorithm):
    """Ditto (Li et al. 2021, arXiv 2012.04221, algorithm 1).

    The shared model w is trained as in FedAvg. In the same round and for as many steps, site k
    trains a model v_k of its own, with w^t as it was broadcast,

        min_v  F_k(v) + mu / 2 |v - w^t|^2

    v_k never leaves the site and goes on from round to round; it begins as the first w^t that the
    site trains from. At the end it is the model that personalisation starts from, while "global"
    is scored by w; the best round is the one whose w is best. A site that never trained starts
    from w. Layers that stay at the site have no w^t to be near.

    A step takes two gradients in all, one for each model.

    Args:
        mu: weight of the proximal term, >= 0; 0 is local training, a large one pulls v_k to w.
        batch_norm: "average", "local" (FedBN) or "freeze"; v_k's statistics are always its own.
        personal: layers of w that stay at the site, by name or pattern; see `Algorithm`.
        shared_rounds: rounds in which these layers are still averaged; see `Algorithm`.
        server: the coordinator's optimiser, null for the plain mean; see `Algorithm`.

    Raises:
        ConfigError: `mu` is negative or not a number.
    """

    gradients_per_step = 2

    def __init__(
        self,
        mu: float = 0.1,
        *,
        batch_norm: BatchNormPolicy = "average",
        personal: Sequence[str] = (),
        shared_rounds: int = 0,
        server: ServerOptimizer | None = None,
    ) -> None:
        super().__init__(
            batch_norm=batch_norm, personal=personal, shared_rounds=shared_rounds, server=server
        )
        self.mu = mu
        self.second = FedProx(
            mu, batch_norm=batch_norm, personal=personal, shared_rounds=shared_rounds
        )

    def check_trainer(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Refuse optimisers for which the second model's term would be added more than once."""
        check_one_optimizer("Ditto", trainer)
