"""What an aggregator is: the coordinator's half that asks, and the site's half that answers."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor

from lightning_fl.errors import ConfigError, SiteError, TooFewSitesError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import COORDINATOR, Message


class Answer(NamedTuple):
    """What a site's operation gives back; the site puts the frame around it.

    Attributes:
        info: small facts. Under "seconds" an operation may say what parts of it took, by name;
            they become rows of costs.csv.
        tensors: by name.
        recipient: whom the answer is for.
        context: fingerprint of a ring's encryption context.
    """

    info: dict[str, Any]
    tensors: dict[str, Tensor]
    recipient: str = COORDINATOR
    context: str = ""


SiteOperation = Callable[[Message], Answer]


class HoldsUpdate(Protocol):
    """The part of a site that an aggregator's site half may use."""

    name: str
    layout: Layout

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """Values `start` to `stop` of the site's update of a round, shape (stop - start,)."""
        ...

    def samples(self) -> int:
        """The site's training samples."""
        ...

    def carry(self, round_: int) -> Tensor | None:
        """What earlier rounds left out of their updates, shape (length,); None for nothing."""
        ...

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what the update of this round leaves out."""
        ...


def _nobody_counts(sites: Sequence[str], least: int) -> None:
    """A run without site-level privacy does not count its sums."""


@dataclass(frozen=True)
class Updates:
    """The updates of a round, as far as the coordinator knows them.

    Attributes:
        round: the round.
        samples: training samples of each site that has an update; 0 where they are hidden.
        layout: of an update.
        min_sites: with fewer sites than this no mean may be made.
        memory: what the aggregator handed over in the round before, as JSON.
        before_sum: to be called before each sum that may be given out, with the sites that are
            asked for their part and how many of them it will have at least.
    """

    round: int
    samples: Mapping[str, int]
    layout: Layout
    min_sites: int = 1
    memory: Mapping[str, Any] = field(default_factory=dict)
    before_sum: Callable[[Sequence[str], int], None] = _nobody_counts


@dataclass(frozen=True)
class Aggregate:
    """The outcome of one aggregation.

    Attributes:
        mean: weighted mean of the survivors' updates, shape (length,).
        lost: the sites whose update is not in it, with the reason.
        memory: what the next round's aggregation needs, as JSON; part of the checkpoint.
        facts: what results.json says about this round's aggregation.
    """

    mean: Tensor
    lost: Mapping[str, SiteError] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Aggregator(ABC):
    """Turns the sites' updates into their weighted mean.

    Args:
        weights: "samples" weighs a site by its number of training samples, which the coordinator
            then knows; "equal" gives all sites the same weight. Subclasses may know others.

    Attributes:
        noise: how sites clip their updates and what noise they add; None for neither.
    """

    known_weights: tuple[str, ...] = ("samples", "equal")
    hides_samples = False
    """Whether sites must not tell the coordinator how many samples they have."""

    def __init__(self, *, weights: str = "samples") -> None:
        if weights not in self.known_weights:
            raise ConfigError(
                f"Expected `weights` to be one of {list(self.known_weights)}, but got {weights!r}."
            )
        self.weights = weights
        self.noise: SiteNoise | None = None

    def weight(self, samples: int) -> int:
        """A site's weight in the mean, before the weights are divided by their sum."""
        return samples if self.weights == "samples" else 1

    def check(  # noqa: B027  not all have conditions
        self, per_round: int, names: Sequence[str], layout: Layout
    ) -> None:
        """Refuse, before anything is trained, what this aggregator cannot do.

        Args:
            per_round: number of sites that train in a round.
            names: all sites that train.
            layout: of an update.

        Raises:
            ConfigError: names the reason and the remedy.
        """

    def protected(self, noise: SiteNoise | None, layout: Layout) -> Self:
        """Return a copy whose sites clip their updates and add noise.

        Args:
            noise: of the run; None for neither.
            layout: of an update.

        Raises:
            ConfigError: these settings of the aggregator give away what the noise should hide.
        """
        protected = copy.copy(self)
        protected.noise = noise
        return protected

    def check_site(self, site: HoldsUpdate) -> None:  # noqa: B027
        """The same at a site, about what only the site knows.

        Raises:
            ConfigError: names the reason and the remedy.
        """

    @abstractmethod
    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """The coordinator's half: ask the sites, through the channel, and average.

        Raises:
            TooFewSitesError: fewer sites than `updates.min_sites` are left.
        """

    @abstractmethod
    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """The site's half: the operations, by name, that a site answers for this aggregator."""

    def describe(self) -> dict[str, Any]:
        """What results.json says about the aggregator."""
        return {"name": type(self).__name__, "weights": self.weights}


def require(left: int, minimum: int, round_: int, lost: Mapping[str, SiteError]) -> None:
    """Stop where too few sites are left for a mean.

    Raises:
        TooFewSitesError: says who was lost and why.
    """
    if left < minimum:
        reasons = "; ".join(f"{site}: {error.detail}" for site, error in lost.items())
        raise TooFewSitesError(
            f"Round {round_} has {left} sites left whose updates could be averaged, but at least "
            f"{minimum} are needed. Lost: {reasons or 'none'}"
        )
