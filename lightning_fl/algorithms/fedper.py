"""Keep the last layers of the net at each site: FedPer."""

from collections.abc import Sequence
from typing import Any

from lightning_fl.algorithms.base import Algorithm


class FedPer(Algorithm):
    """Federated learning with personalisation layers (Arivazhagan et al. 2019, arXiv 1912.00818).

    Algorithms 1 and 2 of the paper: site j trains its base layers W_B and its personal layers
    W_Pj together, as in FedAvg, and sends W_B alone; the mean is over W_B,

        W_B <- sum_j gamma_j W_B,j,    gamma_j = n_j / N.

    All sites begin with the same personal layers. FedAvg with the same `personal` is this method;
    the class gives it its name and its default.

    Args:
        personal: layers that stay at the site, by name or pattern; see `Algorithm`. With none it
            is FedAvg.
    """

    def __init__(self, *, personal: Sequence[str] = ("segmentation_head",), **common: Any) -> None:
        super().__init__(personal=personal, **common)
