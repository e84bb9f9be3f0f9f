"""What hides updates in the run that is audited, and who reads them all the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_fl.audit.views.guesses import MEANS

USUAL_BITS, LEAST_RING = 24, 3
"""Bits and sites of the ring that is looked into where the run has none."""


@dataclass(frozen=True)
class Protection:
    """The settings of a run that decide who can read an update.

    Attributes:
        aggregator: as it describes itself.
        sites: that train in a round.
        privacy: name of the differential privacy; "" for none.
        shares: "updates", "data" where all images are in one place, or "nothing".
    """

    aggregator: Mapping[str, Any]
    sites: int
    privacy: str = ""
    shares: str = "updates"

    @property
    def masking(self) -> str | None:
        """The masks of the ring; None where there is no ring."""
        return self.aggregator.get("masking") if self.shares == "updates" else None

    @property
    def bits(self) -> int:
        """The bits of the ring that is looked into."""
        return int(self.aggregator["bits"]) if self.masking else USUAL_BITS

    @property
    def ring_sites(self) -> int:
        """The sites of the distinguishing test's ring; with two, masks hide nothing."""
        return max(self.sites, LEAST_RING) if self.masking else LEAST_RING

    @property
    def in_the_clear(self) -> bool:
        """Whether the coordinator is sent updates as they are."""
        return self.shares == "updates" and self.aggregator["name"] == "Plain"

    @property
    def hides(self) -> bool:
        """Whether no single party is meant to read another site's update."""
        return self.masking == "pairwise" and self.sites > 2

    def views(self) -> tuple[str, ...]:
        """Return the views that somebody has in this run."""
        mean = (f"mean_{self.sites}",) if self.sites in MEANS else ()
        if self.in_the_clear:
            return ("plain", "plain_steps", *mean)
        if self.masking is None:
            return ()
        if self.sites == 2:
            return ("coordinator", "other_of_two", *mean)
        beside = ("neighbours",) if self.sites > 3 else ()  # of three, one is the initiator
        ring = (f"initiator_{self.masking}", "coordinator", "neighbour", *beside)
        return (*ring, "colluders", *mean)

    def words(self) -> str:
        """Tell a reader who reads updates in this run."""
        if not self.privacy:
            return self._who()
        return (
            f"{self._who()} Its differential privacy ({self.privacy}) blurs what is read; the"
            " trials are without it."
        )

    def _who(self) -> str:
        if self.shares != "updates":
            return f"In this run sites share {self.shares}, so there are no updates to hide."
        if self.in_the_clear:
            return "This run averages in the clear: its coordinator reads every update."
        if self.masking is None:
            return f"What {self.aggregator['name']} hides in this run is not known to the audit."
        if self.sites == 2:
            return "This run has two sites a round: each reads the other's update off the mean."
        if self.hides:
            return (
                "In this run nobody is meant to read another site's update alone; the initiator"
                " and both neighbours of a site together read the sum of the sites that are left."
            )
        return (
            f"This run has no pairwise masks (`masking: {self.masking}`): in every round the"
            " initiator, one of the sites, reads every other site's update."
        )

    def record(self) -> dict[str, Any]:
        """Return what audit.json says of the run."""
        return {
            "aggregator": dict(self.aggregator),
            "privacy": self.privacy or None,
            "sites": self.sites,
            "hides": self.hides,
            "views": self.views(),
            "words": self.words(),
        }
