"""Remember what a site has done in a run, so that nothing is done twice for another purpose."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fl.files import write_text
from lightning_fl.wire.messages import MessageError

FILE = "ledger.json"
"""Name of the ledger's file, in the folder of the site."""
KEPT = 3
"""Rounds whose answers a site can give again. A resumed coordinator goes back two at most."""
MOST_STARTS = 100
"""How often a coordinator may ask a site to describe itself, which a resumed run does."""
MOST_REFUSALS = 100
"""Refused messages after which a site leaves the run."""


class Fingerprint(NamedTuple):
    """Digests of the global state after a round.

    Attributes:
        weights: of the weights.
        server: of what the server optimiser remembers; "" where the site has not got it.
    """

    weights: str
    server: str = ""


class Ledger:
    """Hold what one site has accepted and answered in one run; it survives a restart.

    Each round has one fingerprint, one training and one evaluation. A question that is repeated
    gets the stored answer, so a resumed run goes on and a curious one learns nothing new.

    Args:
        folder: of the site.
        run: identifier of the run; what another run left in the folder is dropped.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.file = folder / FILE
        self.run = run
        self._weights: dict[int, Fingerprint] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        if self.file.is_file():
            stored = json.loads(self.file.read_text("utf-8"))
            if stored["run"] == run:
                self._weights = {int(r): Fingerprint(*f) for r, f in stored["weights"].items()}
                self._answers, self._counts = stored["answers"], stored["counts"]

    def start(self) -> None:
        """Count a description of the site.

        Raises:
            MessageError: the site has described itself too often.
        """
        if self._counts.get("starts", 0) >= MOST_STARTS:
            raise MessageError(
                f"This run has been started {MOST_STARTS} times, which is the most that a site "
                "takes part in. Start a new run from its model (`--init`)."
            )
        self._count("starts")

    def describe(self) -> None:
        """Remember that the site has checked and described itself."""
        self._counts["described"] = 1
        self._write()

    @property
    def has_described(self) -> bool:
        """Whether every check that comes before training has passed."""
        return "described" in self._counts

    def fingerprint(self, round_: int) -> Fingerprint | None:
        """Return the fingerprint that the site has accepted for a round; None for none."""
        return self._weights.get(round_)

    def accept(self, round_: int, state: Fingerprint) -> None:
        """Keep the fingerprint of a round for good.

        Raises:
            MessageError: the site has accepted another one.
        """
        before = self._weights.get(round_)
        if before is not None:
            other_server = before.server and state.server and before.server != state.server
            if before.weights != state.weights or other_server:
                raise MessageError(
                    f"The weights of round {round_} have the digest {state.weights[:16]}..., but "
                    f"this site has accepted {before.weights[:16]}.... A round has one outcome."
                )
            state = Fingerprint(state.weights, state.server or before.server)
        if state != before:
            self._weights[round_] = state
            self._write()

    def answer(self, operation: str, round_: int) -> dict[str, Any] | None:
        """Return what the site has answered to an operation of a round; None before it has.

        Raises:
            MessageError: the round is so long over that its answer is not kept.
        """
        stored = self._answers.get(operation, {})
        if str(round_) not in stored and round_ <= max(map(int, stored), default=0) - KEPT:
            raise MessageError(
                f"Round {round_} is over: this site has answered {operation!r} up to round "
                f"{max(map(int, stored))}."
            )
        return stored.get(str(round_))

    def keep(self, operation: str, round_: int, info: dict[str, Any]) -> None:
        """Keep the answer to an operation of a round, and those of the rounds just before."""
        stored = self._answers.get(operation, {}) | {str(round_): info}
        newest = sorted(stored, key=int)[-KEPT:]
        self._answers[operation] = {number: stored[number] for number in newest}
        self._write()

    def refuse(self) -> None:
        """Count a refused message."""
        self._count("refusals")

    @property
    def has_left(self) -> bool:
        """Whether the site has refused so many messages that it takes no further part."""
        return self._counts.get("refusals", 0) >= MOST_REFUSALS

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        self._write()

    def _write(self) -> None:
        content = {
            "run": self.run,
            "weights": self._weights,
            "answers": self._answers,
            "counts": self._counts,
        }
        write_text(self.file, json.dumps(content))
