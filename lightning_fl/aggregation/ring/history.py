"""Remember the rings of each round, so that no two sums of a round differ by one update."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightning_fl.files import write_text

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
        finished: those of them of which all blocks of this site have left; none at the initiator.
        opened: whether this site, as the initiator, has given out the sums.
    """

    order: list[str]
    attempt: int
    terms: str
    rings: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    opened: bool = False


class RoundSpent(Exception):  # noqa: N818  an event, not a mistake
    """Tell that a site takes part in no other ring of a round."""


class RingHistory:
    """Decide which rings a site takes part in.

    A sum over ABCD and one over ABC give D's update. So a second ring of a round has either the
    members of the first, and gives the same sum, or fewer members and a first ring that cannot be
    opened any more. See docs/secure_aggregation.md.

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

    def check(
        self,
        round_: int,
        order: Sequence[str],
        attempt: int,
        terms: str,
        unopened: Collection[str],
    ) -> None:
        """Refuse a ring whose sum could be compared with that of another ring of its round.

        Args:
            round_: of the run.
            order: the sites of the ring.
            attempt: its number in the round.
            terms: digest of all that the site is told of the ring, and of the weights.
            unopened: names of earlier rings that a member has signed to be closed for good.

        Raises:
            RoundSpent: says why.
        """
        if round_ <= max(self._rounds, default=0) - KEPT:
            raise RoundSpent(f"Round {round_} is over.")
        entries = self._rounds.get(round_, [])
        if sum(len(entry.rings) for entry in entries) >= MOST_RINGS:
            raise RoundSpent(f"Round {round_} has had {MOST_RINGS} rings.")
        same = next((entry for entry in entries if set(entry.order) == set(order)), None)
        for entry in entries:
            if entry is not same and not self._is_shut(entry, unopened):
                raise RoundSpent(
                    f"A ring of round {round_} over {sorted(entry.order)} may have been opened. "
                    f"Another sum, over {sorted(order)}, could give an update away."
                )
        if same is not None and (attempt, terms) != (same.attempt, same.terms):
            raise RoundSpent(f"A ring of round {round_} was begun on other terms than this one.")
        if same is None and attempt != len(entries):
            raise RoundSpent(f"Ring {len(entries)} of round {round_} is due, and not {attempt}.")
        if same is None and not all(set(order) < set(entry.order) for entry in entries):
            raise RoundSpent(f"Only fewer sites than before can go on in round {round_}.")

    def _is_shut(self, entry: Members, unopened: Collection[str]) -> bool:
        """Return whether no ring over these members was, or can be, opened."""
        return not entry.opened and set(entry.finished) <= set(unopened)

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
        return ring in self._entries()

    def members(self, round_: int, ring: str) -> Sequence[str]:
        """Return the sites of a ring that this site has joined in a round; [] for another."""
        entry = self._entries(round_).get(ring)
        return [] if entry is None else entry.order

    def finish(self, ring: str) -> None:
        """Write down that all of this site's blocks of a ring are about to leave."""
        self._entry(ring).finished.append(ring)
        self._write()

    def open(self, ring: str) -> None:
        """Write down that this site is about to give out the sums of a ring."""
        self._entry(ring).opened = True
        self._write()

    def can_vouch(self, site: str, round_: int, ring: str) -> bool:
        """Return whether a ring of a round, which this site has left, can never be opened.

        So it is where the site was the initiator and gave no sum out, or where some of its own
        blocks never left. The ring must be of that round: coordinators choose names, so another
        round can have a ring of the same name, and that ring can be opened.
        """
        entry = self._entries(round_).get(ring)
        if entry is None:
            return False
        return not entry.opened if entry.order[0] == site else ring not in entry.finished

    def _entry(self, ring: str) -> Members:
        return self._entries()[ring]

    def _entries(self, round_: int | None = None) -> Mapping[str, Members]:
        """Return the members of the rings of a round, or of all rounds, by the ring's name."""
        rounds = self._rounds if round_ is None else {round_: self._rounds.get(round_, [])}
        return {
            ring: entry for entries in rounds.values() for entry in entries for ring in entry.rings
        }

    def _write(self) -> None:
        if self._file is None:
            return
        rounds = {
            round_: [asdict(entry) for entry in entries] for round_, entries in self._rounds.items()
        }
        write_text(self._file, json.dumps({"run": self.run, "rounds": rounds}))
