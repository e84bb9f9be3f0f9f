"""Define an aggregator: the coordinator's half that asks, and the site's half that answers."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from lightning_fl.errors import ConfigError, SiteError, TooFewSitesError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.training.layout import Layout
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import MessageError
from lightning_fl.wire.operations import SiteOperation


class HoldsUpdate(Protocol):
    """List what an aggregator's site half may use of a site."""

    name: str
    layout: Layout

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """Return values `start` to `stop` of the update of a round, shape (stop - start,)."""

    def samples(self) -> int:
        """Return the number of training samples."""

    def carry(self, round_: int) -> Tensor | None:
        """Return what rounds up to this one left out of their updates, shape (length,)."""

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what the update of this round leaves out."""

    @property
    def folder(self) -> Path | None:
        """The folder for what has to survive a restart; None keeps it in memory."""

    @property
    def least_sites(self) -> int:
        """The fewest sites of a sum that this site takes part in."""

    def count_release(self, noise_multiplier: float) -> None:
        """Count an update with noise before it is released; refuse it without a budget."""

    def origin(self, round_: int) -> str:
        """Return the digest of the weights that the update of a round was trained from."""

    def is_drawn(self, site: str, round_: int) -> bool:
        """Return whether a site may train in a round, as all can work out."""


@dataclass(frozen=True)
class Updates:
    """Describe the updates of a round, as far as the coordinator knows them.

    Attributes:
        round: the round.
        samples: training samples of each site that has an update; 0 where they are hidden.
        layout: of an update.
        min_sites: with fewer sites than this no mean may be made.
        memory: what the aggregator handed over in the round before, as JSON.
        share: gives the part of all training sites' weight that some of them have together.
        before_sum: to be called before each sum that may be given out, with the sites that are
            asked for their part and the least number of them that it will have.
    """

    round: int
    samples: Mapping[str, int]
    layout: Layout
    min_sites: int = 1
    memory: Mapping[str, Any] = field(default_factory=dict)
    share: Callable[[Collection[str]], float] = lambda sites: 1.0
    before_sum: Callable[[Sequence[str], int], None] = lambda sites, least: None


@dataclass(frozen=True)
class Aggregate:
    """Hold the outcome of one aggregation.

    Attributes:
        mean: weighted mean of the updates, shape (length,).
        lost: the sites whose update is not in it, with the reason.
        memory: what the next round's aggregation needs, as JSON. It is a part of the checkpoint,
            so aggregators hold no state and a resumed run gives the same numbers.
        facts: what results.json says about this round's aggregation.
        proof: what lets a site check that the mean is the sites'; {} where nothing does.
    """

    mean: Tensor
    lost: Mapping[str, SiteError] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Describe the mean of a round, as a site hears of it.

    Attributes:
        run: identifier of the run.
        round: the round.
        before: digest of the weights that the site has for the round before.
        mean: digest of the mean that arrived.
        norm: L2 norm of this mean.
        share: part of all training sites' weight that is in the mean, in (0, 1].
        proof: of the aggregator.
    """

    run: str
    round: int
    before: str
    mean: str
    norm: float
    share: float
    proof: Mapping[str, Any]


class Aggregator(ABC):
    """Turn the sites' updates into their weighted mean.

    Args:
        weights: "samples" weighs a site by its number of training samples, which the coordinator
            then knows; "equal" gives all sites the same weight. Subclasses may take others.

    Attributes:
        noise: how sites clip their updates and what noise they add; None for neither.
    """

    weight_choices: tuple[str, ...] = ("samples", "equal")
    hides_samples = False
    """Whether sites must not tell the coordinator how many samples they have."""

    def __init__(self, *, weights: str = "samples") -> None:
        if weights not in self.weight_choices:
            raise ConfigError(
                f"Expected `weights` to be one of {list(self.weight_choices)}, but got {weights!r}."
            )
        self.weights = weights
        self.noise: SiteNoise | None = None

    @property
    def verifies(self) -> bool:
        """Whether a site can check that a mean came out of the sites' updates."""
        return False

    def weight(self, samples: int) -> int:
        """Return a site's weight in the mean, before weights are divided by their sum."""
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
        """Return a copy whose sites clip their updates and add noise; None means neither.

        Raises:
            ConfigError: these settings of the aggregator give away what the noise should hide.
        """
        protected = copy.copy(self)
        protected.noise = noise
        return protected

    def check_site(self, site: HoldsUpdate) -> None:  # noqa: B027
        """Refuse at the site, before it trains, what only the site can check.

        Raises:
            ConfigError: names the reason and the remedy.
        """

    def check_samples(self, samples: Mapping[str, int]) -> None:  # noqa: B027
        """Refuse, before anything is trained, what the training sites say of their samples.

        Raises:
            ConfigError: names the site and the remedy.
        """

    def check_mean(self, site: HoldsUpdate, outcome: Outcome) -> None:  # noqa: B027
        """Refuse at a site a mean that the sites did not make; here nothing tells.

        Raises:
            MessageError: the proof does not fit.
        """

    def sign(self, site: str, statement: Sequence[Any]) -> dict[str, str]:
        """Return a site's signature of a statement; {} where sites have no identities."""
        return {}

    def check_signature(self, site: str, statement: Sequence[Any], signed: Any) -> None:
        """Refuse a statement that a site has not signed.

        Raises:
            MessageError: the signature does not fit; here none can.
        """
        raise MessageError(f"Nothing that site {site!r} signs can be checked in this run.")

    @abstractmethod
    def mean(self, channel: Channel, updates: Updates) -> Aggregate:
        """Ask the sites for their parts through the channel and average: the coordinator's half.

        Raises:
            TooFewSitesError: fewer sites than `updates.min_sites` are left.
        """

    @abstractmethod
    def site_operations(self, site: HoldsUpdate) -> Mapping[str, SiteOperation]:
        """Return the operations that a site answers for this aggregator, by name."""

    def describe(self) -> dict[str, Any]:
        """Return what results.json says about the aggregator."""
        return {"name": type(self).__name__, "weights": self.weights}


def require_sites(left: int, minimum: int, round_: int, lost: Mapping[str, SiteError]) -> None:
    """Stop where too few sites are left for a mean.

    Raises:
        TooFewSitesError: says which sites were lost and why.
    """
    if left < minimum:
        reasons = "; ".join(f"{site}: {error.detail}" for site, error in lost.items())
        raise TooFewSitesError(
            f"Round {round_} has {left} sites left whose updates could be averaged, but at least "
            f"{minimum} are needed. Lost: {reasons or 'none'}"
        )
