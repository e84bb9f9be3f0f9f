"""The coordinator's half of differential privacy: what it keeps account of, round by round."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "privacy.json"
"""Beside the checkpoints. It does not go back with one: what was given out stays given out."""


class PrivacyAccount:
    """What the coordinator does for differential privacy; this one is for runs without it."""

    def hear(self, round_: int, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what the sites answered after they trained a round, by site."""

    def begin(self, round_: int, sites: Sequence[str], least: int) -> None:
        """Count a sum that is about to be made.

        Args:
            round_: of the run.
            sites: that are asked for their part.
            least: how many of them will be in the sum if there is one.
        """

    def settle(self, present: int) -> None:
        """Note how many sites are in the last sum."""

    def summary(self) -> dict[str, Any]:
        """Return what results.json says under "privacy"; {} for nothing."""
        return {}


def entries(file: Path) -> list[dict[str, Any]]:
    """Return what an account has written so far; [] where its file is not there yet."""
    content: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    return content
