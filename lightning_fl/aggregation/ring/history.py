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
class JoinedRings:
    """Hold the rings of one round that a site has joined.

    Attributes:
        order: the sites of the last one, the initiator first.
        terms: digest of all that the site was told of it, and of the weights.
        rings: names of all of them, in the order of joining.
        opened: whether this site has given its part of the key to the sums of the last one.
    """

    order: list[str]
    terms: str
    rings: list[str] = field(default_factory=list)
    opened: bool = False


class RingDue(Exception):  # noqa: N818  an event, not a mistake
    """Tell that a site takes part in a ring of fewer, or of other, sites than it was asked for.

    Attributes:
        sites: of that ring.
    """

    def __init__(self, reason: str, sites: Collection[str]) -> None:
        super().__init__(reason)
        self.sites = sorted(sites)


class RingHistory:
    """Decide which rings a site takes part in.

    A sum over ABCD and one over ABC give D's update. So a site gives its part of the key for one
    set of sites a round, and each ring that it joins has only sites of those before. See
    docs/secure_aggregation.md.

    Args:
        folder: where the history is kept; None keeps it in memory.
        run: identifier of the run; the history of another run is dropped.
    """

    def __init__(self, folder: Path | None, run: str) -> None:
        self._file = None if folder is None else folder / FILE
        self.run = run
        self._rounds: dict[int, JoinedRings] = {}
        if self._file is not None and self._file.is_file():
            stored = json.loads(self._file.read_text("utf-8"))
            if stored["run"] == run:
                rounds = stored["rounds"].items()
                self._rounds = {int(round_): JoinedRings(**joined) for round_, joined in rounds}

    def check(self, round_: int, order: Sequence[str], terms: str) -> None:
        """Refuse a ring whose sum could be compared with that of another ring of its round.

        Args:
            round_: of the run.
            order: the sites of the ring.
            terms: digest of all that the site is told of the ring, and of the weights.

        Raises:
            RingDue: the site takes part in a ring of other sites.
            MessageError: the site takes part in no more rings of the round, or not on these terms.
        """
        if round_ <= max(self._rounds, default=0) - KEPT:
            raise MessageError(f"Round {round_} is over.")
        joined = self._rounds.get(round_)
        if joined is None:
            return
        if len(joined.rings) >= MOST_RINGS:
            raise MessageError(f"Round {round_} has had {MOST_RINGS} rings.")
        before = set(joined.order)
        due = before if joined.opened else before & set(order)
        if due != set(order):
            done = "opened the sum" if joined.opened else "joined a ring"
            raise RingDue(
                f"This site has {done} of round {round_} over {sorted(before)}, so it takes part "
                f"in one over {sorted(due)}, and not over {sorted(order)}.",
                due,
            )
        if due == before and terms != joined.terms:
            raise MessageError(f"A ring of round {round_} was begun on other terms than this one.")

    def join(self, round_: int, order: Sequence[str], terms: str, ring: str) -> None:
        """Write down that this site joins a ring."""
        joined = self._rounds.setdefault(round_, JoinedRings([], ""))
        joined.order, joined.terms = [*order], terms
        joined.rings.append(ring)
        for old in sorted(self._rounds)[:-KEPT]:
            del self._rounds[old]
        self._write()

    def has(self, ring: str) -> bool:
        """Return whether this site has joined a ring of that name."""
        return any(ring in joined.rings for joined in self._rounds.values())

    def open(self, round_: int, ring: str) -> None:
        """Write down that this site is about to give its part of the key to a ring's sums.

        Raises:
            MessageError: it has joined another ring of the round since.
        """
        joined = self._rounds.get(round_)
        if joined is None or joined.rings[-1] != ring:
            raise MessageError(f"Ring {ring!r} is not the last one that this site has joined.")
        joined.opened = True
        self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        rounds = {round_: asdict(joined) for round_, joined in self._rounds.items()}
        write_text(self._file, json.dumps({"run": self.run, "rounds": rounds}))
