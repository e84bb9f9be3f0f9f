"""The far end of the Ray engine: a process that hosts sites. Nothing here knows Ray."""

import gc
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex

import torch

from lightning_fl.engines.base import MakeSite
from lightning_fl.engines.local import ask, set_libraries_aside
from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Answering
from lightning_fl.wire.versions import package_versions

ANSWERED = "answered"
"""Stands where a failure has its kind, in what a host returns."""
ROOT = Path(__file__).resolve().parents[3]
"""Of the repository, or where the packages are installed."""


def versions() -> dict[str, str]:
    """Return the versions on which numbers and messages depend, in this process."""
    # torch with its build, e.g. 2.15.0+cpu, on which the last bits of numbers depend
    return package_versions(("lightning-fl",)) | {"torch": torch.__version__}


@dataclass(frozen=True)
class Surroundings:
    """What a host must share with the coordinator.

    Attributes:
        directory: in which the coordinator works; relative paths in settings begin there.
        threads: of torch; numbers can differ in the last bits with their count.
        versions: the coordinator's.
        marker: a file in the run's folder, "" where sites have no such folder.
    """

    directory: str
    threads: int
    versions: Mapping[str, str] = field(default_factory=versions)
    marker: str = ""

    def enter(self) -> list[str]:
        """Settle in them.

        Returns:
            What is wrong here, each with its remedy; nothing where the host can serve.
        """
        host, installed = socket.gethostname(), versions()
        problems = [
            f"{host} has {name} {installed.get(name, 'not at all')}, but the coordinator {version};"
            " install the same on all machines"
            for name, version in self.versions.items()
            if installed.get(name) != version
        ]
        try:
            os.chdir(self.directory)
        except OSError as error:
            problems.append(
                f"{host} has no folder {self.directory} ({error.strerror}), in which the "
                "coordinator works; the repository must be at the same place on all machines"
            )
        folder = Path(self.marker).parent
        if self.marker and not (os.access(self.marker, os.R_OK) and os.access(folder, os.W_OK)):
            problems.append(
                f"{host} does not see the run's folder {folder}; choose one that all machines "
                "share, by `output` (with --validate, by the variable TMPDIR)"
            )
        return problems


@contextmanager
def marked(folder: str | None) -> Iterator[str]:
    """Put a marker, whose name cannot be guessed, into a folder while hosts may start.

    Yields:
        The marker's path; "" without a folder.
    """
    if folder is None:
        yield ""
        return
    marker = Path(folder) / f".ray-{token_hex(16)}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    try:
        yield str(marker)
    finally:
        marker.unlink(missing_ok=True)


class Host:
    """Answers for its sites, one call after the other; an actor of Ray is one of these.

    Args:
        make_site: builds one of them here, when it is first asked.
        surroundings: that it must find here.
    """

    def __init__(self, make_site: MakeSite, surroundings: Surroundings) -> None:
        self._make_site = make_site
        self._surroundings = surroundings
        self._sites: dict[str, Answering] = {}

    def greet(self) -> tuple[int, list[str]]:
        """Return this process's number, and what is wrong with it; see `Surroundings.enter`."""
        return os.getpid(), self._surroundings.enter()

    def handle(self, site: str, op: str, payload: bytes) -> tuple[str, bytes | str]:
        """Let a site answer.

        Returns:
            `ANSWERED` and the answer, or kind and detail of the failure. An exception would travel
            as a pickle, which runs what it likes where it is opened.
        """
        reply = ask(site, partial(self._answer, site), op, payload)
        gc.collect()
        if isinstance(reply, SiteError):
            return reply.kind, reply.detail
        return ANSWERED, reply.payload

    def _answer(self, name: str, op: str, payload: bytes) -> bytes:
        """Build the site where it is not there yet, so that what fails then is its answer."""
        if name not in self._sites:
            site = self._make_site(name)
            torch.set_num_threads(self._surroundings.threads)
            if not self._sites:  # only now has everything been imported
                set_libraries_aside()
            self._sites[name] = site
        return self._sites[name].handle(op, payload)
