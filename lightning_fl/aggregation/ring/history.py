"""Remember the rings of each round, so that no two sums of a round differ by one update."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightning_fl.files import write_text
from lightning_fl.wire.messages import MessageError

FILE = "rings.json"
KEPT = 3
"""Rounds whose rings are kept; a resumed coordinator goes back two at most."""


MOST_RINGS = 100
"""Rings of one round that a site joins; a run that is resumed in a round needs another one."""


@dataclass
class Members:
    """Hold what has become of the rings of one round over some members.

    Attributes:
        order: the sites, the initiator first.
        attempt: number of the ring in its round.
        terms: digest of all that the site was told of the ring, and of the weights.
        rings: names of the rings that this site has joined.
        opened: whether this site has given its part of the key to their sums.
    """

    order: list[str]
    attempt: int
    terms: str
    rings: list[str] = field(default_factory=list)
    opened: bool = False


class RingDue(Exception):  # noqa: N818  an event, not a mistake
    """Tell which ring a site takes part in, in place of the one that it was asked for.

    Attributes:
        sites: of that ring.
        attempt: its number in the round.
    """

    def __init__(self, reason: str, sites: Collection[str], attempt: int) -> None:
        super().__init__(reason)
        self.sites = sorted(sites)
        self.attempt = attempt


class RingHistory:
    """Decide which rings a site takes part in.

    A sum over ABCD and one over ABC give D's update. So a site gives its part of the key for one
    set of members a round, and each set has only members of those before. See
    docs/secure_aggregation.md.

    Args:
        folder: where the history is kept; None keeps it in memory.
        run: identifier of the run; the history of another run is dropped.
    """

    def __init__(self, folder: Path | None, run: str) -> None:
        self._file = None if folder is None else folder / FILE
        self.run = run
        self._rounds: dict[int, list[Members]] = {}
        if self._file is not None and self._file.is_file():
            stored = json.loads(self._file.read_text("utf-8"))
            if stored["run"] == run:
                self._rounds = {
                    int(round_): [Members(**entry) for entry in entries]
                    for round_, entries in stored["rounds"].items()
                }

    def check(self, round_: int, order: Sequence[str], attempt: int, terms: str) -> None:
        """Refuse a ring whose sum could be compared with that of another ring of its round.

        Args:
            round_: of the run.
            order: the sites of the ring.
            attempt: its number in the round.
            terms: digest of all that the site is told of the ring, and of the weights.

        Raises:
            RingDue: the site takes part in another ring of the round.
            MessageError: the site takes part in no more rings of the round, or not on these terms.
        """
        if round_ <= max(self._rounds, default=0) - KEPT:
            raise MessageError(f"Round {round_} is over.")
        entries = self._rounds.get(round_, [])
        if sum(len(entry.rings) for entry in entries) >= MOST_RINGS:
            raise MessageError(f"Round {round_} has had {MOST_RINGS} rings.")
        opened = next((entry.order for entry in entries if entry.opened), None)
        if opened is not None and set(opened) != set(order):
            reason = f"This site has opened the sum of round {round_} over {sorted(opened)}"
        else:
            reason = f"Round {round_} goes on with those who were in each of its rings"
        sites = self._due(entries, order) if opened is None else set(opened)
        entry = next((entry for entry in entries if set(entry.order) == sites), None)
        number = len(entries) if entry is None else entry.attempt
        if sites != set(order) or number != attempt:
            raise RingDue(
                f"{reason}: ring {number} over {sorted(sites)} is due, and not ring {attempt} "
                f"over {sorted(order)}.",
                sites,
                number,
            )
        if entry is not None and terms != entry.terms:
            raise MessageError(f"A ring of round {round_} was begun on other terms than this one.")

    @staticmethod
    def _due(entries: Sequence[Members], order: Sequence[str]) -> set[str]:
        """Return those who can go on: a set as before, or those who were in all sets before."""
        before = [set(entry.order) for entry in entries]
        return set(order) if set(order) in before else set(order).intersection(*before)

    def join(self, round_: int, order: Sequence[str], attempt: int, terms: str, ring: str) -> None:
        """Write down that this site joins a ring."""
        entries = self._rounds.setdefault(round_, [])
        entry = next((entry for entry in entries if entry.order == [*order]), None)
        if entry is None:
            entry = Members([*order], attempt, terms)
            entries.append(entry)
        entry.rings.append(ring)
        for old in sorted(self._rounds)[:-KEPT]:
            del self._rounds[old]
        self._write()

    def has(self, ring: str) -> bool:
        """Return whether this site has joined a ring of that name."""
        return any(ring in entry.rings for entries in self._rounds.values() for entry in entries)

    def open(self, round_: int, ring: str) -> None:
        """Write down that this site is about to give its part of the key to a ring's sums.

        Raises:
            MessageError: it has given its part of another one in this round.
        """
        [entry] = [entry for entry in self._rounds[round_] if ring in entry.rings]
        if any(other.opened for other in self._rounds[round_] if other is not entry):
            raise MessageError(f"This site has opened another sum of round {round_}.")
        entry.opened = True
        self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        rounds = {
            round_: [asdict(entry) for entry in entries] for round_, entries in self._rounds.items()
        }
        write_text(self._file, json.dumps({"run": self.run, "rounds": rounds}))
