"""What verified rounds cost: `python -m benchmarks.verified_rounds [--rounds 4]`.

Runs the quickstart through the ring with pinned identities, adds up the time in signatures,
digests, checks and the files that remember them, and compares it with the time of the rounds. The
bytes are those of the same run without pins. Prints a table; writes nothing.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from lightning_fl.aggregation import cyclic
from lightning_fl.aggregation.ring import agreed_ring, identity, member
from lightning_fl.aggregation.ring.history import RingHistory
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.site import global_weights, round
from lightning_fl.site.ledger import Ledger
from lightning_fl.wire.monitor import Monitor

SITES = "ABCD"
CONFIG = "configs/quickstart.yaml"
RING = "lightning_fl.aggregation.CyclicCKKS"


class Stopwatch:
    """Adds up the seconds in some functions, those inside each other once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self, owner: Any, name: str) -> Any:
        """Return a patch under which a function counts."""
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            start, self._depth = time.perf_counter(), self._depth + 1
            try:
                return original(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - start

        return patch.object(owner, name, counted)


WATCHED = (
    *((Ledger, "_write"), (RingHistory, "_write"), (RingHistory, "check")),
    *((identity.Identity, "sign"), (identity.Identity, "__init__"), (member, "verify")),
    (member, "block_tag"),
    *((cyclic, "verify"), (cyclic, "vector_digest"), (member, "vector_digest")),
    *((global_weights, "vector_digest"), (round, "vector_digest")),
    *((agreed_ring, "checked_order"), (global_weights.GlobalWeights, "_check_first")),
)
"""What a run without verified rounds would not do."""


def run(folder: Path, rounds: int, pins: dict[str, str]) -> tuple[float, float, int]:
    """Run the quickstart; return seconds of its rounds, of verification in it, and the bytes."""
    ring: dict[str, Any] = {"class_path": RING}
    if pins:
        ring["init_args"] = {"pins": pins, "identities": str(folder.parent)}
    arguments = [
        *("--config", CONFIG, "--output", str(folder), "--rounds", str(rounds)),
        *("--aggregator", str(ring), "--trainer.accelerator", "cpu"),
        *("--personalisation.candidates", "[]"),  # after the last round
    ]
    settings = read_settings(arguments)
    settings.save()
    watch = Stopwatch()
    patches = [watch.watch(owner, name) for owner, name in WATCHED]
    for each in patches:
        each.start()
    try:
        Run(settings.experiment, settings.folder, Monitor(), text=settings.text).start()
    finally:
        for each in patches:
            each.stop()
    with (folder / "costs.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["operation"] != "personalise"]
    in_rounds = sum(float(row["seconds"]) for row in rows)
    sent = sum(int(row["bytes_up"]) + int(row["bytes_down"]) for row in rows)
    return in_rounds, watch.seconds, sent


def main() -> None:
    """Print what verification takes of a round, and the bytes it adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    with TemporaryDirectory() as name:
        folder = Path(name)
        pins = {site: identity.make(folder / f"{site}{identity.SUFFIX}") for site in SITES}
        plain = run(folder / "without", rounds, {})
        pinned = run(folder / "with", rounds, pins)
    share = 100 * pinned[1] / pinned[0]
    more = (pinned[2] - plain[2]) / rounds / len(SITES)
    sys.stdout.write(
        f"seconds of the sites: {pinned[0]:.1f}, of these verification {pinned[1]:.2f} "
        f"({share:.2f} %)\nbytes of signatures a site and round: {more:.0f}\n"
    )


if __name__ == "__main__":
    main()
