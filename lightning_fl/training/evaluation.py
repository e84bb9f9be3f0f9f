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
        gallery: test images of each site to show in the report, 0 for none.
        test_candidates: test every candidate of personalisation too, not the chosen one alone.
        volumes: segment and score whole test scans in the end, where the data hold them.
    """

    metric: str = "dice"
    lower_is_better: bool = False
    every: int = 1
    gallery: int = 4
    test_candidates: bool = False
    volumes: bool = True

    def check(self) -> None:
        """Refuse values that cannot work."""
        if self.every < 1:
            raise ConfigError(
                f"Expected `evaluation.every` to be at least 1, but got {self.every}."
            )

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a score beats another; NaN beats nothing, and all else beats NaN."""
        if math.isnan(value) or math.isnan(than):
            return not math.isnan(value)
        return value < than if self.lower_is_better else value > than
