"""Train beside the shared model one of each site's own, held near the shared one: Ditto."""

from typing import Any

from lightning_fl.algorithms.base import Algorithm
from lightning_fl.algorithms.fedprox import FedProx


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

    Raises:
        ConfigError: `mu` is negative or not a number.
    """

    gradients_per_step = 2
    one_optimizer = True

    def __init__(self, mu: float = 0.1, **common: Any) -> None:
        super().__init__(**common)
        self.mu = mu
        self.second = FedProx(
            mu,
            batch_norm=self.batch_norm,
            personal=self.personal,
            shared_rounds=self.shared_rounds,
        )
