"""How models are scored and compared."""

import math
from dataclasses import dataclass

from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class Evaluation:
    """Say how models are compared.

    Args:
        metric: what the best round and the personal model are chosen by, on validation data; as
            the task logs it, without "val/".
        lower_is_better: whether the metric is a loss.
        every: evaluate the global model after every so many rounds (and after the last).
        patience: stop training after so many rounds without a better score, null for never; the
            best round is the one that counts in any case.
        gallery: test images of each site to show in the report, 0 for none.
        test_candidates: test every candidate of personalisation too, not the chosen one alone.
        volumes: segment and score whole test scans in the end, where the data hold them.
    """

    metric: str = "dice"
    lower_is_better: bool = False
    every: int = 1
    patience: int | None = None
    gallery: int = 4
    test_candidates: bool = False
    volumes: bool = True

    def check(self) -> None:
        """Refuse values that cannot work."""
        if self.every < 1:
            raise ConfigError(
                f"Expected `evaluation.every` to be at least 1, but got {self.every}."
            )
        if self.patience is not None and self.patience < self.every:
            raise ConfigError(
                f"Expected `evaluation.patience` to be at least `evaluation.every`, {self.every} "
                f"rounds, but got {self.patience}."
            )

    def is_due(self, round_: int) -> bool:
        """Return whether a round is evaluated, the last one of a run aside."""
        return round_ % self.every == 0

    def is_enough(self, round_: int, best_round: int) -> bool:
        """Return whether training stops after a round, since `patience` is at its end."""
        if self.patience is None or not self.is_due(round_):
            return False
        return round_ - best_round >= self.patience

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a score beats another; NaN beats nothing, and all else beats NaN."""
        if math.isnan(value) or math.isnan(than):
            return not math.isnan(value)
        return value < than if self.lower_is_better else value > than
