"""What membership inference shows of one model, beside what a coin would give, and in words."""

import math
from dataclasses import dataclass
from typing import Any

from lightning_fl.audit.membership.inference import Inference, Interval


@dataclass(frozen=True)
class ModelInference:
    """One attack on one model.

    Attributes:
        model: "global" or "personal".
        site: whose; "" for the model of all.
        attack: its name.
        result: how well it tells members from non-members.
    """

    model: str
    site: str
    attack: str
    result: Inference

    @property
    def coin(self) -> Interval:
        """Where the AUC of a coin lies in 95 % of the cases, with as many patients.

        The normal approximation of the Mann-Whitney statistic: standard deviation
        `sqrt((m + n + 1) / (12 m n))` around 0.5.
        """
        members, others = self.result.members, self.result.non_members
        half = 1.96 * math.sqrt((members + others + 1) / (12 * members * others))
        return max(0.0, 0.5 - half), min(1.0, 0.5 + half)

    @property
    def detected(self) -> bool:
        """Whether the model gives its training patients away.

        The AUC has to lie above both the coin's interval and, by its own, 0.5: with few patients
        the bootstrap alone believes too easily.
        """
        return self.result.detected and self.result.values["auc"] > self.coin[1]

    @property
    def words(self) -> str:
        """The verdict."""
        low, high = self.coin
        if self.detected:
            return "Gives training patients away."
        if self.result.values["auc"] < low:
            return "Below what a coin reaches: by chance, or training patients are harder cases."
        if high >= 1:
            return "So few patients that no result could be told from a coin."
        return f"Not told from a coin; an AUC above {high:.2f} would be."

    def record(self) -> dict[str, Any]:
        """Return what audit.json says of the attack."""
        return {
            "model": self.model,
            "site": self.site,
            "attack": self.attack,
            "members": self.result.members,
            "non_members": self.result.non_members,
            **self.result.values,
            "intervals": dict(self.result.intervals),
            "coin": self.coin,
            "detected": self.detected,
            "words": self.words,
        }
