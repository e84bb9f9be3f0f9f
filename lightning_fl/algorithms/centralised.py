"""Centralised: one model on the pooled data, a bound that no real federation may compute."""

from lightning_fl.algorithms.base import Algorithm


class Centralised(Algorithm):
    """One model trained on the training patients of all sites together.

    For comparison only: the data of all sites are read in one place. To give the pooled model as
    many gradients as a federation of n sites, multiply the local steps by n. It is evaluated, and
    personalised, at every site like any global model.

    Args:
        batch_norm: "freeze" holds BatchNorm's running statistics fixed.
    """

    pools_data = True
