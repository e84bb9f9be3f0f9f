"""The coordinator's half: what it keeps account of, round by round. Here: of nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class PrivacyAccount:
    """What the coordinator does for differential privacy; this one is for runs without it."""

    def hear(self, round_: int, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what the sites said after they trained a round, by site."""

    def begin(self, round_: int, sites: Sequence[str], least: int) -> None:
        """A sum is about to be made.

        Args:
            round_: of the run.
            sites: that are asked for their part.
            least: how many of them will be in the sum if there is one.
        """

    def settle(self, present: int) -> None:
        """So many sites are in the last sum."""

    def repair(self, weights: Tensor) -> Tensor:
        """Global weights that noise has left usable, shape (length,)."""
        return weights

    def summary(self) -> dict[str, Any]:
        """What results.json says under "privacy"; {} for nothing."""
        return {}
