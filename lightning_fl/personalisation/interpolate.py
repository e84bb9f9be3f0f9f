"""Between the model as it came and the fine-tuned one."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import last_path, require_path
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.training.layout import State


class Interpolate(Candidate):
    """Take weights on the line from the start model to the fine-tuned one, without a gradient.

    w(a) = (1 - a) w_start + a w_tuned, as in WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903),
    where w_tuned is the last snapshot of the FineTune that stands before this in the list.
    BatchNorm is re-estimated on the training images afterwards, unless the run freezes it: then
    its statistics are those of both ends.

    Args:
        weights: the values of a, each between 0 and 1.

    Raises:
        ConfigError: a weight is not between 0 and 1.
    """

    label = "interpolate"

    def __init__(self, weights: Sequence[float] = (0.25, 0.5, 0.75)) -> None:
        if not weights or not all(0 < weight < 1 for weight in weights):
            raise ConfigError(
                "Expected Interpolate's `weights` to lie between 0 and 1, both ends left out, but "
                f"got {list(weights)}. The ends themselves are candidates already."
            )
        self.weights = tuple(weights)

    def check(self, module: pl.LightningModule, before: Sequence[Candidate]) -> None:
        """Refuse to stand before any fine-tuning."""
        require_path("Interpolate", before)

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant for each weight."""
        tuned = last_path(earlier)[-1]
        start, end = bench.start.state_dict(), tuned.module.state_dict()
        modules = {w: bench.with_averaged(blend(start, end, w)) for w in self.weights}
        return [Variant(f"{self.label}@{w:g}", modules[w], tuned.steps) for w in self.weights]


def blend(start: State, end: State, weight: float) -> State:
    """Return (1 - weight) start + weight end; integer entries are those of the end."""
    return {
        name: torch.lerp(start[name], value, weight) if value.is_floating_point() else value
        for name, value in end.items()
    }
