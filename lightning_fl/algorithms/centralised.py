"""Train one model on the pooled data, a bound that no real federation may compute."""

from torch import nn

from lightning_fl.algorithms.base import Algorithm
from lightning_fl.training.batch_norm import BatchNormPolicy


class Centralised(Algorithm):
    """One model trained on the training patients of all sites together.

    For comparison only: the data of all sites are read in one place. To give the pooled model as
    many gradients as a federation of n sites, multiply the local steps by n. It is evaluated, and
    personalised, at every site like any global model.

    Args:
        batch_norm: "freeze" holds BatchNorm's running statistics fixed; the other two are alike
            here.
    """

    pools_data = True

    def __init__(self, *, batch_norm: BatchNormPolicy = "average") -> None:
        super().__init__(batch_norm=batch_norm)

    def local_entries(self, module: nn.Module) -> set[str]:
        """Keep nothing back: what stayed with the pooled data would be missing at the sites."""
        return set()
