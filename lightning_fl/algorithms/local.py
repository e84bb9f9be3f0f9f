"""Train every site alone, the bound that a federation must beat to be worth joining."""

from torch import nn

from lightning_fl.algorithms.base import Algorithm
from lightning_fl.training.batch_norm import BatchNormPolicy


class Local(Algorithm):
    """Each site trains its own model from the same start and shares nothing.

    Its results are reported as "local" instead of "global", and each site keeps the round that was
    best on its own validation data.

    Args:
        batch_norm: "freeze" holds BatchNorm's running statistics fixed; the other two are alike
            here.
    """

    trains_alone = True

    def __init__(self, *, batch_norm: BatchNormPolicy = "average") -> None:
        super().__init__(batch_norm=batch_norm)

    def local_entries(self, module: nn.Module) -> set[str]:
        """Keep everything at the site."""
        return set(module.state_dict())
