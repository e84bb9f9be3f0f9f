"""The coordinator's account of sample-level privacy: what each site says it has spent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fl.files import write_text
from lightning_fl.privacy.account import FILE, PrivacyAccount, entries
from lightning_fl.privacy.sample_level import SampleLevelDP


class SampleAccount(PrivacyAccount):
    """What the sites report, round by round; goes on where the file ends.

    Args:
        folder: where the file is, or will be.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: SampleLevelDP) -> None:
        self.file = folder / FILE
        self.settings = settings
        self.reports = entries(self.file)

    def hear(self, round_: int, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what the sites answered after they trained a round, by site."""
        self.reports += [
            {"round": round_, "site": site, **info["privacy"]}
            for site, info in answers.items()
            if "privacy" in info
        ]
        write_text(self.file, json.dumps(self.reports, indent=1))

    def summary(self) -> dict[str, Any]:
        """Return what results.json says: `epsilon` is the worst site's, "sites" has each one's."""
        sites = {report["site"]: report for report in self.reports}  # the last one counts
        return {
            "name": "SampleLevelDP",
            "protects": self.settings.protects,
            "max_grad_norm": self.settings.max_grad_norm,
            "delta": self.settings.delta,
            "epsilon": max((report["epsilon"] for report in sites.values()), default=0.0),
            "sites": {
                site: {key: value for key, value in report.items() if key not in ("site", "round")}
                for site, report in sorted(sites.items())
            },
            "rounds": [
                {"round": round_, "epsilon": self._worst(round_)}
                for round_ in sorted({report["round"] for report in self.reports})
            ],
        }

    def _worst(self, last: int) -> float:
        return max(float(r["epsilon"]) for r in self.reports if r["round"] <= last)
