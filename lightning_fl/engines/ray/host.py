"""The far end of the Ray engine: a process that hosts sites. Nothing here knows Ray."""

import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import torch

import lightning_fl
from lightning_fl.engines.local import LocalTransport, short_lived_models
from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Answering

ANSWERED = "answered"
"""Stands where a failure has its kind, in what a host returns."""
ROOT = Path(lightning_fl.__file__).parents[1]
"""Of the repository, or where the packages are installed."""


def versions() -> dict[str, str]:
    """Versions on which numbers and messages depend, in this process."""
    return {
        "lightning_fl": lightning_fl.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Surroundings:
    """What a host must share with the coordinator.

    Attributes:
        directory: in which the coordinator works; relative paths in settings begin there.
        threads: of torch; numbers can differ in the last bits with their count.
        versions: the coordinator's.
        marker: a file in the run's folder and what is in it, "" where sites have no such folder.
        content: of the marker.
    """

    directory: str
    threads: int
    versions: Mapping[str, str] = field(default_factory=versions)
    marker: str = ""
    content: str = ""

    def enter(self) -> list[str]:
        """Settle in them.

        Returns:
            What is wrong here, each with its remedy; nothing where the host can serve.
        """
        here = socket.gethostname()
        problems = [
            f"{here} has {name} {found}, but the coordinator {self.versions[name]}; install the "
            "same on all machines"
            for name, found in versions().items()
            if found != self.versions[name]
        ]
        try:
            os.chdir(self.directory)
        except OSError as error:
            problems.append(
                f"{here} has no folder {self.directory} ({error.strerror}), in which the "
                "coordinator works; the repository must be at the same place on all machines"
            )
        if self.marker and not self._sees_marker():
            problems.append(
                f"{here} does not see the run's folder {Path(self.marker).parent}; choose one that "
                "all machines share, by `output` (with --validate, by the variable TMPDIR)"
            )
        return problems

    def _sees_marker(self) -> bool:
        """Whether the run's folder is the coordinator's, and can be written to."""
        marker = Path(self.marker)
        try:
            return marker.read_text() == self.content and os.access(marker.parent, os.W_OK)
        except OSError:
            return False


@contextmanager
def marked(folder: str | None) -> Iterator[tuple[str, str]]:
    """A file in a folder, while hosts may start: its path and content; "" without a folder."""
    if folder is None:
        yield "", ""
        return
    content = token_hex(16)
    marker = Path(folder) / f".ray-{content}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(content)
    try:
        yield str(marker), content
    finally:
        marker.unlink(missing_ok=True)


class HostedSite:
    """A site that is built when it is first asked, so that what fails then is its answer."""

    def __init__(self, build: Callable[[], Answering]) -> None:
        self._build = build
        self._site: Answering | None = None

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation."""
        if self._site is None:
            self._site = self._build()
        return self._site.handle(op, payload)


class Host:
    """Answers for its sites, one call after the other; an actor of Ray is one of these.

    Args:
        names: of the sites.
        make_site: builds one of them here.
        surroundings: that it must find here.
    """

    def __init__(
        self,
        names: Sequence[str],
        make_site: Callable[[str], Answering],
        surroundings: Surroundings,
    ) -> None:
        self._make_site = make_site
        self._surroundings = surroundings
        self._life = ExitStack()  # never left: it ends with the process
        self._frozen = False
        sites = {name: HostedSite(lambda name=name: self._build(name)) for name in names}  # type: ignore[misc]
        self._sites = LocalTransport(sites)

    def greet(self) -> tuple[int, list[str]]:
        """Number of this process, and what is wrong with it; see `Surroundings.enter`."""
        return os.getpid(), self._surroundings.enter()

    def handle(self, site: str, op: str, payload: bytes) -> tuple[str, bytes | str]:
        """Let a site answer.

        Returns:
            `ANSWERED` and the answer, or kind and detail of the failure. An exception would travel
            as a pickle, which a coordinator should not open.
        """
        reply = self._sites.map(op, {site: payload}, timeout=float("inf"))[site]
        if isinstance(reply, SiteError):
            return reply.kind, reply.detail
        return ANSWERED, reply.payload

    def _build(self, name: str) -> Answering:
        site = self._make_site(name)
        torch.set_num_threads(self._surroundings.threads)
        if not self._frozen:  # only now has everything been imported
            self._life.enter_context(short_lived_models())
            self._frozen = True
        return site
