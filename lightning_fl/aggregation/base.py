"""What an aggregator is: the coordinator's half that asks, and the site's half that answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from lightning_fl.channel import Channel
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.messages import Message

Weighting = Literal["samples", "equal"]


class Answer(NamedTuple):
    """What a site's operation gives back; the site puts the frame around it."""

    info: dict[str, Any]
    tensors: dict[str, Tensor]


SiteOperation = Callable[[Message], Answer]


class HoldsUpdate(Protocol):
    """The part of a site that an aggregator's site half may use."""

    def update(self, round_: int) -> Tensor:
        """The site's update of a round, shape (length,)."""
        ...


@dataclass(frozen=True)
class Aggregate:
    """The outcome of one aggregation.

    Attributes:
        mean: weighted mean of the survivors' updates, shape (length,).
        lost: the sites whose update is not in it, with the reason.
    """

    mean: Tensor
    lost: Mapping[str, SiteError] = field(default_factory=dict)


class Aggregator(ABC):
    """Turns the sites' updates into their weighted mean.

    Args:
        weights: "samples" weighs a site by its number of training samples, which the coordinator
            then knows; "equal" gives all sites the same weight.
    """

    def __init__(self, *, weights: Weighting = "samples") -> None:
        if weights not in ("samples", "equal"):
            raise ConfigError(f"Expected `weights` to be samples or equal, but got {weights!r}.")
        self.weights: Weighting = weights

    def weight(self, samples: int) -> int:
        """A site's weight in the mean, before the weights are divided by their sum."""
        return samples if self.weights == "samples" else 1

    @abstractmethod
    def mean(
        self, channel: Channel, round_: int, samples: Mapping[str, int], length: int
    ) -> Aggregate:
        """The coordinator's half.

        Args:
            channel: to the sites.
            round_: the round whose updates are meant.
            samples: training samples of each site that has an update.
            length: values in an update.

        Raises:
            TooFewSitesError: no site is left.
        """

    @abstractmethod
    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """The site's half: the operations, by name, that a site answers for this aggregator."""

    def describe(self) -> dict[str, Any]:
        """What results.json says about the aggregator."""
        return {"name": type(self).__name__, "weights": self.weights}
