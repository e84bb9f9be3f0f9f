"""How much noise each site adds, and how much is left where some sites' noise is known."""

import math
from dataclasses import dataclass

from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class SiteNoise:
    """The numbers of site-level privacy in one run.

    Attributes:
        clip: largest L2 norm of a site's weighted update.
        noise_multiplier: of the noise that those who work together cannot subtract.
        delta: of the bound.
        colluding: sites that may work together and subtract their own noise.
        most: sites that a sum can have; a site believes no larger number.
    """

    clip: float
    noise_multiplier: float
    delta: float
    colluding: int
    most: int

    def share(self, sites: int) -> float:
        """Return the standard deviation of each value of one site's noise in a sum of so many.

        Raises:
            ConfigError: a number of sites that this run cannot have, or nobody is left to add
                noise that counts.
        """
        if not self.colluding < sites <= self.most:
            raise ConfigError(
                f"A sum of {sites} sites cannot be private here: expected more than the "
                f"{self.colluding} that may collude and at most {self.most}, the sites of a round. "
                "Lower `privacy.colluding` or let more sites take part."
            )
        return self.noise_multiplier * self.clip / math.sqrt(sites - self.colluding)

    def left(self, present: int, asked: int, colluding: int | None = None) -> float:
        """Return the noise multiplier of a sum, for somebody who knows some sites' noise.

        Args:
            present: sites in the sum.
            asked: sites that the shares were made for; those lost took theirs along.
            colluding: sites whose noise is known; None for those of the settings.
        """
        honest = max(present - (self.colluding if colluding is None else colluding), 0)
        return self.noise_multiplier * math.sqrt(honest / (asked - self.colluding))
