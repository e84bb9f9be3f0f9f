"""Do one run of train.py after another, in a process of its own; this file imports no torch."""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from types import ModuleType

from lightning_fl.errors import ConfigError


@dataclass(frozen=True)
class Job:
    """One call of train.py.

    Attributes:
        name: for a person to read.
        arguments: of the command line.
        log: gets all that the run says; its folder is made if it is not there.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path


def load_train() -> ModuleType:
    """Import the program train.py, which is in the repository's root and not installed.

    Raises:
        ConfigError: Python does not find it.
    """
    try:
        return importlib.import_module("train")
    except ModuleNotFoundError as error:
        if error.name != "train":
            raise
        raise ConfigError(
            f"There is no train.py in {Path.cwd()}; start the study in the repository's root."
        ) from error


def serve(connection: Connection) -> None:
    """Do jobs until the runner ends; answer each with the reason of its failure, or ""."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    train = load_train()
    try:
        while True:
            connection.send(perform(train, connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the runner is gone, or has ended this worker inside of a run


def _end_with_parent() -> None:
    """End when the runner does: one that is killed outright cannot stop its workers."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def perform(train: ModuleType, job: Job) -> str:
    """Call train.py and return the reason of its failure, or ""; the worker lives on."""
    with _output_to(job.log) as start:
        try:
            status = train.main(list(job.arguments))
        except SystemExit as error:  # how jsonargparse refuses settings
            status = error.code if isinstance(error.code, int) else 1
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
    return _last_error(job.log, start, status) if status else ""


@contextmanager
def _output_to(log: Path) -> Iterator[int]:
    """Send what the process writes to a file, what libraries in C write too.

    Yields:
        Where in the file it begins.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield file.tell()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _last_error(log: Path, start: int, status: int) -> str:
    """Return the last error that train.py wrote."""
    text = log.read_bytes()[start:].decode("utf-8", errors="replace")
    errors = [line for line in text.splitlines() if "error: " in line]
    reason = errors[-1].partition("error: ")[2] if errors else f"see {log}"
    return f"exit status {status}: {reason}"
