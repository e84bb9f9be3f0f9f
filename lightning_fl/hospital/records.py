"""Write down what comes into a hospital and what leaves it, and the errors that stay."""

import csv
import hashlib
import logging
import os
import time
import traceback
from pathlib import Path
from typing import Any

from lightning_fl.wire.messages import MAGIC, digest_of, frame_of

_log = logging.getLogger(__name__)
MESSAGES = "messages.csv"
"""What came into a hospital and what left it, in the folder of a run."""
ERRORS = "errors.log"
"""The errors of a run at a hospital, with their numbers."""
COLUMNS = (
    *("time", "operation", "direction", "bytes", "digest"),
    *("round", "ring", "members", "note"),
)
LONGEST = 200
"""Characters of a cell: a coordinator could send names of megabytes."""
ONCE = ("train", "evaluate", "personalise", "ring_join")
"""Operations of which one in a round is usual."""


class HospitalRecords:
    """Keeps messages.csv and errors.log in a folder, readable by their owner alone.

    Args:
        folder: of a run at the hospital, or of all runs before there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked: set[tuple[str, str]] = set()
        errors = folder / ERRORS
        text = errors.read_text("utf-8") if errors.is_file() else ""
        self._errors = text.count(_HEAD)

    def message(self, op: str, direction: str, payload: bytes, note: str = "") -> None:
        """Add a row to messages.csv and a line to the log, so that a hospital sees what leaves."""
        frame = frame_of(payload)
        info = frame.get("info") if isinstance(frame.get("info"), dict) else {}
        order = info.get("order") if isinstance(info, dict) else None
        round_, ring = _cell(frame.get("round", "")), _cell(frame.get("ring", ""))
        if direction == "in" and (op, round_) in self._asked:
            note = f"WARNING: {op} of round {round_} was asked for before"
            _log.warning("%s", note)
        if direction == "out" and op in ONCE:  # what was refused is never kept in memory
            self._asked.add((op, round_))
        framed = payload.startswith(MAGIC)
        digest = digest_of(payload) if framed else hashlib.sha256(payload).hexdigest()
        members = _cell(" ".join(map(str, order))) if isinstance(order, list) else ""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S")
        self._add((moment, _cell(op), direction, len(payload), digest, round_, ring, members, note))
        _log.info("%s %r: %d bytes", direction, op, len(payload))

    def error(self, op: str, payload: bytes, error: Exception) -> int:
        """Write an error down and return its number."""
        self._errors += 1
        moment = time.strftime("%Y-%m-%dT%H:%M:%S")
        lines = [
            f"{_HEAD}{self._errors} {moment} {_cell(op)}\n",
            *traceback.format_exception(error),
        ]
        with _append(self.folder / ERRORS) as out:
            out.writelines(lines)
        self.message(op, "failed", payload, f"error {self._errors}: {type(error).__name__}")
        _log.error("error %d in %r: %s", self._errors, op, error)
        return self._errors

    def _add(self, row: tuple[object, ...]) -> None:
        file = self.folder / MESSAGES
        new = not file.exists()
        with _append(file) as out:
            writer = csv.writer(out)
            writer.writerows([COLUMNS] * new)
            writer.writerow(row)


def _cell(value: object) -> str:
    return str(value)[:LONGEST]


_HEAD = "== error "
"""Begins each entry of errors.log."""


def _append(file: Path) -> Any:
    """Open a text file to add to it; a new one is for its owner alone."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(descriptor, "a", newline="", encoding="utf-8")
