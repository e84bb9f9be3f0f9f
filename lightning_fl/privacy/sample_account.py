"""The coordinator's account of sample-level privacy: what each site says it has spent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fl.files import write_text
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.privacy.sample_level import SampleLevelDP

FILE = "privacy.json"


class SampleAccount(PrivacyAccount):
    """What the sites said, round by round; goes on where the file ends.

    Args:
        folder: where the file is, or will be.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: SampleLevelDP) -> None:
        self.file = folder / FILE
        self.settings = settings
        known = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else []
        self.said: list[dict[str, Any]] = known

    def hear(self, round_: int, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what the sites said after they trained a round, by site."""
        self.said += [
            {"round": round_, "site": site, **info["privacy"]}
            for site, info in told.items()
            if "privacy" in info
        ]
        write_text(self.file, json.dumps(self.said, indent=1))

    def summary(self) -> dict[str, Any]:
        """`epsilon` is the worst site's; each site's own is under "sites"."""
        sites = {entry["site"]: entry for entry in self.said}  # the last one counts
        return {
            "name": "SampleLevelDP",
            "protects": self.settings.protects,
            "max_grad_norm": self.settings.max_grad_norm,
            "delta": self.settings.delta,
            "epsilon": max((entry["epsilon"] for entry in sites.values()), default=0.0),
            "sites": {
                site: {key: entry[key] for key in entry if key not in ("site", "round")}
                for site, entry in sorted(sites.items())
            },
            "rounds": self._rounds(),
        }

    def _rounds(self) -> list[dict[str, Any]]:
        rounds = sorted({entry["round"] for entry in self.said})
        return [
            {
                "round": round_,
                "epsilon": max(e["epsilon"] for e in self.said if e["round"] <= round_),
            }
            for round_ in rounds
        ]
