"""Train locally, then take the mean of the updates: FedAvg."""

from lightning_fl.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Federated averaging (McMahan et al. 2017, arXiv 1602.05629, algorithm 1).

    Every site trains the global weights on its own data with the task's optimiser; the new global
    weights are the weighted mean of the sites' weights.
    """
