"""What a run tells the person in front of it; see callbacks/progress.py for how it looks."""

from collections.abc import Mapping, Sequence
from typing import Any


class Monitor:
    """Hears about the progress of a federation; every method does nothing by default."""

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """The run begins, or goes on after a resume, with round `first_round` of `rounds`."""

    def on_operation(self, *, round_: int, operation: str, sites: int) -> None:
        """An operation, e.g. "train", "aggregate" or "personalise", begins at some sites."""

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        """One site has answered the operation in progress."""

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        """A site's part in this round is dropped; the round goes on without it."""

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """A round is saved; `scores` is the validation metric of each site."""

    def on_run_end(self, *, results: Mapping[str, Any], run: str) -> None:
        """The run is over; `results` is what results.json holds, `run` the run's folder."""

    def close(self) -> None:
        """Give the terminal back, also after an error."""
