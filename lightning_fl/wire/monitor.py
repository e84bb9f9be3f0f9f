"""What a run tells the person in front of it; see callbacks/progress.py for how it looks."""

from collections.abc import Mapping, Sequence
from typing import Any


class Monitor:
    """Hears about the progress of a federation; every method does nothing by default."""

    def on_run_start(self, *, sites: Sequence[str], first_round: int, rounds: int) -> None:
        """Hear that the run begins, or goes on, with round `first_round` of `rounds`."""

    def on_operation(
        self,
        *,
        operation: str,
        round_: int | None = None,
        total: int | None = None,
        unit: str = "sites",
    ) -> None:
        """Hear that an operation begins, e.g. "train" at 4 sites or "aggregate" of 120 blocks.

        Args:
            operation: its name.
            round_: of the run; None before the first round and after the last.
            total: how many sites or other parts it has; None where they are not counted.
            unit: what is counted. Answers of sites to an operation of that name count too; all
                other parts are heard of in `on_part_done`.
        """

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        """Hear that one site has answered an operation of that name, as costs.csv has it."""

    def on_part_done(self) -> None:
        """Hear that one part of the operation in progress is done, e.g. a block or a scan."""

    def on_site_lost(self, *, round_: int, site: str, reason: str) -> None:
        """Hear that a site's part in this round is dropped; the round goes on without it."""

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        """Hear that a round is saved; `scores` is the validation metric of each site."""

    def on_early_stop(self, *, round_: int, best_round: int) -> None:
        """Hear that training ends after a round, since none after the best one was better."""

    def on_run_end(self, *, results: Mapping[str, Any], run: str) -> None:
        """Hear that the run is over; `results` is what results.json holds, `run` the folder."""

    def close(self) -> None:
        """Give the terminal back, also after an error."""
