"""Keeps the processes of a deployment on one machine, and ends exactly these."""

import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from lightning_fl.errors import ConfigError

MARK = "LIGHTNING_FL_DEMO"
"""Variable of the environment that every process started here hands down to its own."""
END = 10.0
"""Seconds that processes have to end when they are asked to, before they are killed."""
SAVE = 30.0
"""Seconds that a process has to end after an interrupt; a run stops its job in that time."""
TICK = 0.5
"""Seconds between two looks at whether processes still run."""
TAIL = 12
"""Lines of a log that are shown when its process has ended."""


@dataclass(frozen=True)
class Party:
    """How a party starts its process.

    Attributes:
        name: for messages.
        folder: the process works in it.
        environment: of the process, all of it.
        log: gets what the process says; None leaves that on the screen.
    """

    name: str
    folder: Path
    environment: Mapping[str, str]
    log: Path | None = None


class Processes:
    """Starts processes, each in a session of its own, and ends them and all that they started.

    A mark in their environment finds them, also those whose parent has ended before. They are ended
    by their number, so nothing of anybody else is touched.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self._started: list[tuple[Party, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stopped: object) -> None:
        self.stop()

    def start(self, party: Party, command: Sequence[str | Path]) -> None:
        """Start the process of a party, which is to run until the end."""
        self._started.append((party, self._process(party, command)))

    def run(self, party: Party, command: Sequence[str | Path], limit: float) -> int:
        """Run a process to its end, as long as those of the others run, and return its exit status.

        After `limit` seconds it is interrupted, as by Ctrl-C.

        Raises:
            ConfigError: it took too long, or the process of another has ended.
        """
        process = self._process(party, command)
        end = time.monotonic() + limit
        try:
            while process.poll() is None:
                self._check()
                if time.monotonic() > end:
                    raise ConfigError(f"{party.name} has not ended in {limit:g} seconds.")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(SAVE)
                process.kill()
        return process.wait()

    def family(self) -> list[psutil.Process]:
        """List the processes that were started here and still run, with all that they started."""
        family = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # another user's, or it has just ended
                if process.environ().get(MARK) == self.mark:
                    family.append(process)
        return family

    def stop(self) -> None:
        """End them; those that have not ended in time are killed."""
        try:
            asked = self.family()
            for process in asked:
                with suppress(psutil.Error):
                    process.terminate()
            psutil.wait_procs(asked, timeout=END)
        finally:
            while left := self.family():  # again, for one may just have started another
                for process in left:
                    with suppress(psutil.Error):
                        process.kill()
                psutil.wait_procs(left, timeout=TICK)
            for _, started in self._started:
                started.wait()

    def _process(self, party: Party, command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        with nullcontext() if party.log is None else party.log.open("ab") as out:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd=party.folder,
                env={**party.environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is the demo's to hear
            )

    def _check(self) -> None:
        for party, process in self._started:
            if process.poll() is not None:
                raise ConfigError(
                    f"The process of {party.name} ended with status {process.returncode}. "
                    f"The end of {party.log}:\n{last_lines(party.log)}"
                )


def last_lines(log: Path | None) -> str:
    """Return the end of a log."""
    if log is None or not log.is_file():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
