"""Carry bytes through NVFlare's jobs, and start the processes of lost sites again."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from lightning_fl.engines.hosting import HOST
from lightning_fl.engines.nvflare.jobs import Jobs
from lightning_fl.engines.nvflare.line import Post
from lightning_fl.engines.nvflare.relay import PING, RelayTransport
from lightning_fl.errors import ConfigError, SiteError, SiteErrorKind
from lightning_fl.wire.transport import Outcomes, Reply, Transport

PING_SECONDS = 10.0
"""For a site that did not answer the last time to say that it is there at all."""
ABSENT: dict[SiteErrorKind, str] = {
    "lost": "its process is gone",
    "timeout": "it still does not answer",
}
_log = logging.getLogger(__name__)


class NVFlareTransport(Transport):
    """Carries bytes through NVFlare's jobs.

    A site whose process is gone is lost for the operation. When it is asked again and could be
    there again, its process is started anew, and the site comes back from its folder.

    Args:
        jobs: nothing is started yet.
        invitations: of each site.
        wait: seconds for processes to start.

    Attributes:
        processes: the number of each site's process, on its own machine.
    """

    def __init__(self, jobs: Jobs, invitations: Mapping[str, bytes], wait: float) -> None:
        self._jobs = jobs
        self._invitations = dict(invitations)
        self._sites = tuple(invitations)
        self._wait = wait
        self._lost: set[str] = set()
        self._late: set[str] = set()
        self._post = Post()
        self.processes: dict[str, int] = {}
        self._relay = RelayTransport(jobs.is_alive)

    def open(self) -> None:
        """Start all sites.

        Raises:
            ConfigError: they do not start.
            SiteError: one cannot be hosted.
        """
        for failure in self._host(self._sites).values():
            raise failure

    def close(self) -> None:
        """Hang up and stop everything."""
        with ExitStack() as all_of:  # each is done, whatever another one raises
            all_of.callback(self._post.close)
            all_of.callback(self._jobs.close)
            all_of.callback(self._jobs.stop, self._sites)
            self._relay.hang_up(self._sites)

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask all sites at once; those that were lost if they can be there again."""
        lost = [site for site in payloads if site in self._lost]
        if lost and (returning := self._jobs.returning(lost)):
            self._start_again(returning)
        absent = self._absent(payloads)
        present = {site: payload for site, payload in payloads.items() if site not in absent}
        for site, reply in self._relay.outcomes(op, present, timeout):
            self._mark(site, reply)
            yield site, reply
        for site, kind in absent.items():
            yield site, SiteError(site, op, kind, ABSENT[kind])

    def _absent(self, sites: Iterable[str]) -> dict[str, SiteErrorKind]:
        """Return the sites that need not be asked: lost ones, and late ones that are still silent.

        Without a quick look at late ones, each further operation would wait its whole time.
        """
        absent: dict[str, SiteErrorKind] = {s: "lost" for s in sites if s in self._lost}
        late = dict.fromkeys((s for s in sites if s in self._late and s not in absent), b"")
        for site, reply in self._relay.map(PING, late, timeout=PING_SECONDS).items():
            if isinstance(reply, SiteError):
                absent[site] = "timeout"
        return absent

    def _mark(self, site: str, reply: Reply | SiteError) -> None:
        """Remember lost and late sites; a process that hangs is ended where that can be done."""
        self._late.discard(site)
        if not isinstance(reply, SiteError):
            return
        if reply.kind == "timeout":
            self._late.add(site)
        if reply.kind == "lost" or (reply.kind == "timeout" and self._jobs.kill(site)):
            self._lost.add(site)

    def _start_again(self, sites: Sequence[str]) -> None:
        start = time.monotonic()
        self._relay.hang_up(sites)
        self._jobs.stop(sites)
        try:
            failed = self._host(sites)
        except ConfigError as error:
            _log.warning("%s could not be started again: %s", ", ".join(sites), error)
            self._lost |= set(sites)
            return
        self._lost = (self._lost - set(sites)) | set(failed)
        back = ", ".join(site for site in sites if site not in failed) or "nobody"
        _log.info("started again in %.0f s: %s", time.monotonic() - start, back)

    def _host(self, sites: Sequence[str]) -> dict[str, SiteError]:
        """Start processes and let them host their sites; return the failures."""
        self._jobs.start(self._post.folder, sites)
        self._connect(sites)
        invitations = {site: self._invitations[site] for site in sites}
        failed: dict[str, SiteError] = {}
        processes: dict[str, int] = {}
        for site, reply in self._relay.map(HOST, invitations, timeout=self._wait).items():
            if isinstance(reply, SiteError):
                failed[site] = reply
            else:
                processes[site] = json.loads(reply.payload)["process"]
        self._jobs.welcome(processes)
        self.processes |= processes
        return failed

    def _connect(self, sites: Sequence[str]) -> None:
        """Wait until the far ends of all these sites have called in."""
        missing, end = set(sites), time.monotonic() + self._wait
        while missing:
            try:
                line = self._post.answer(end - time.monotonic(), self._jobs.check)
            except TimeoutError as error:
                raise ConfigError(
                    f"NVFlare has not started {', '.join(sorted(missing))} in {self._wait:g} "
                    "seconds. Raise `engine.start_timeout`, or see NVFlare's logs."
                ) from error
            missing -= set(self._relay.connect(line))
