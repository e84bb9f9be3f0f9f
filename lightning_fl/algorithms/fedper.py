"""FedPer: the last layers of the net belong to each site."""

from collections.abc import Sequence

from lightning_fl.algorithms.base import Algorithm
from lightning_fl.algorithms.server import ServerOptimizer
from lightning_fl.batch_norm import BatchNormPolicy


class FedPer(Algorithm):
    """Federated learning with personalisation layers (Arivazhagan et al. 2019, arXiv 1912.00818).

    Algorithms 1 and 2 of the paper: site j trains its base layers W_B and its personal layers
    W_Pj together, as in FedAvg, and sends W_B alone; the mean is over W_B,

        W_B <- sum_j gamma_j W_B,j,    gamma_j = n_j / N.

    All sites begin with the same personal layers. FedAvg with the same `personal` is this method;
    the class gives it its name and its default.

    Args:
        batch_norm: "average", "local" (FedBN) or "freeze".
        personal: layers that stay at the site, by name or pattern; see `Algorithm`. With none it
            is FedAvg.
        shared_rounds: rounds in which these layers are still averaged; see `Algorithm`.
        server: the coordinator's optimiser, null for the plain mean; see `Algorithm`.
    """

    def __init__(
        self,
        *,
        batch_norm: BatchNormPolicy = "average",
        personal: Sequence[str] = ("segmentation_head",),
        shared_rounds: int = 0,
        server: ServerOptimizer | None = None,
    ) -> None:
        super().__init__(
            batch_norm=batch_norm, personal=personal, shared_rounds=shared_rounds, server=server
        )
