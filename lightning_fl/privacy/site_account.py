"""What a run under site-level privacy has given out, written down before it is given out."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_fl.files import write_text
from lightning_fl.privacy.account import FILE, PrivacyAccount, entries
from lightning_fl.privacy.accountant import GaussianStep, epsilon
from lightning_fl.privacy.noise import SiteNoise


@dataclass
class CountedSum:
    """One sum that was begun.

    Attributes:
        round: of the run.
        sites: whose updates it was made of.
        present: how many of them are sure to be in it.
    """

    round: int
    sites: list[str]
    present: int


class SiteAccount(PrivacyAccount):
    """The sums of a run under site-level privacy.

    A sum counts from the moment it is begun, since the run may be killed after it has been given
    out. A round that is repeated, and a ring that broke, count again.

    Args:
        folder: where the file is, or will be.
        noise: of the run.
        training: number of sites that train.
    """

    def __init__(self, folder: Path, noise: SiteNoise, training: int) -> None:
        self.file = folder / FILE
        self.noise = noise
        self.training = training
        self.sums = [CountedSum(**entry) for entry in entries(self.file)]

    def begin(self, round_: int, sites: Sequence[str], least: int) -> None:
        """Write a sum down before the first site is asked."""
        self.sums.append(CountedSum(round_, sorted(sites), least))
        self._write()

    def settle(self, present: int) -> None:
        """Note how many sites are in the last sum."""
        self.sums[-1].present = present
        self._write()

    def _write(self) -> None:
        write_text(self.file, json.dumps([asdict(entry) for entry in self.sums], indent=1))

    def summary(self) -> dict[str, Any]:
        """Return what results.json says under "privacy".

        `epsilon` is the worst site's, by the sums it was asked for, whoever else knows of them. It
        is for a site whose updates become 0. `replaced` is for a site whose data become any
        other's, which can move a sum twice as far. `to_another_site` is for an observer who knows
        the noise of one site more than `colluding`. `secret_sampling` is what it would be to
        somebody who cannot know which sites took part, were each drawn by itself.
        """
        noise = self.noise
        return {
            "name": "SiteLevelDP",
            "protects": "site",
            "clip": noise.clip,
            "noise_multiplier": noise.noise_multiplier,
            "delta": noise.delta,
            "colluding": noise.colluding,
            "epsilon": self._worst(self.sums),
            "replaced": self._worst(self.sums, factor=0.5),
            "to_another_site": self._worst(self.sums, colluding=noise.colluding + 1),
            "secret_sampling": self._sampled(),
            "rounds": self._rounds(),
        }

    def _rounds(self) -> list[dict[str, Any]]:
        """Return what has been given out up to each round."""
        return [
            {
                "round": round_,
                "sums": len(sums := [entry for entry in self.sums if entry.round == round_]),
                "noise_multiplier": min(self._left(entry) for entry in sums),
                "epsilon": self._worst(entry for entry in self.sums if entry.round <= round_),
            }
            for round_ in sorted({entry.round for entry in self.sums})
        ]

    def _left(self, entry: CountedSum, colluding: int | None = None) -> float:
        return self.noise.left(entry.present, len(entry.sites), colluding)

    def _worst(
        self, sums: Iterable[CountedSum], *, factor: float = 1.0, colluding: int | None = None
    ) -> float:
        """Return the largest epsilon of a site, without any credit for not being drawn."""
        steps: dict[str, list[GaussianStep]] = {}
        for entry in sums:
            step = GaussianStep(factor * self._left(entry, colluding))
            for site in entry.sites:
                steps.setdefault(site, []).append(step)
        return max((epsilon(s, self.noise.delta) for s in steps.values()), default=0.0)

    def _sampled(self) -> float:
        steps = [
            GaussianStep(self._left(entry), min(len(entry.sites) / self.training, 1.0))
            for entry in self.sums
        ]
        return epsilon(steps, self.noise.delta) if steps else math.nan
