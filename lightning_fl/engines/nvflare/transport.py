"""A relay to NVFlare's job, which is started again for sites that were lost."""

import json
import logging
import time
from collections.abc import Mapping, Sequence

from lightning_fl.engines.hosting import HOST
from lightning_fl.engines.nvflare.jobs import Job
from lightning_fl.engines.relay import Post, RelayTransport
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.transport import OnReply, Reply, Transport

_log = logging.getLogger(__name__)


class NVFlareTransport(Transport):
    """Carries bytes through the job.

    A site that is lost stays so while the job runs. When it is asked again and could be there
    again, the job is started anew: every site then comes back from its folder.

    Args:
        job: not started yet.
        invitations: of each site.
        wait: seconds for the job to start.
    """

    def __init__(self, job: Job, invitations: Mapping[str, bytes], wait: float) -> None:
        self._job = job
        self._invitations = dict(invitations)
        self._wait = wait
        self._lost: set[str] = set()

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites."""
        return tuple(self._invitations)

    def open(self, least: int | None = None) -> None:
        """Start the job and let its processes host the sites.

        Args:
            least: sites without which it does not start; None for all.

        Raises:
            ConfigError: the job does not start.
            SiteError: with `least` None, a site cannot be hosted.
        """
        self._post = Post()
        self._job.start(self._post.folder, len(self.sites) if least is None else least)
        try:
            line = self._post.wait(self._wait, self._job.check)
        except TimeoutError as error:
            raise ConfigError(
                f"NVFlare's job has not started in {self._wait:g} seconds. Raise "
                "`engine.start_timeout`, or see NVFlare's logs."
            ) from error
        self._relay = RelayTransport(line, self.sites, self._job.is_alive)
        replies = self._relay.map(HOST, self._invitations, timeout=self._wait)
        failed = {site: r for site, r in replies.items() if isinstance(r, SiteError)}
        if failed and least is None:
            raise next(iter(failed.values()))
        self._lost = set(failed)
        there = {site: r for site, r in replies.items() if isinstance(r, Reply)}
        self._job.welcome({site: json.loads(r.payload)["process"] for site, r in there.items()})

    def close(self) -> None:
        """Hang up and stop the job."""
        if hasattr(self, "_relay"):
            self._relay.close()
        self._job.stop()
        self._post.__exit__()

    def map(
        self,
        op: str,
        payloads: Mapping[str, bytes],
        *,
        timeout: float,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply | SiteError]:
        """Ask all sites at once; those that were lost if they can be there again."""
        lost = [site for site in payloads if site in self._lost]
        if lost and self._job.has(lost):
            self._start_again(lost)
        replies: dict[str, Reply | SiteError] = {
            site: SiteError(site, op, "lost", "its process is gone")
            for site in payloads
            if site in self._lost
        }
        there = {site: payload for site, payload in payloads.items() if site not in replies}
        replies |= self._relay.map(op, there, timeout=timeout, on_reply=on_reply)
        for site, reply in replies.items():
            self._mark(site, reply)
        return {site: replies[site] for site in payloads}

    def _mark(self, site: str, reply: Reply | SiteError) -> None:
        """Remember who is lost; a process that hangs is ended where that can be done."""
        if not isinstance(reply, SiteError):
            return
        if reply.kind == "lost" or (reply.kind == "timeout" and self._job.end(site)):
            self._lost.add(site)

    def _start_again(self, lost: Sequence[str]) -> None:
        start = time.monotonic()
        self.close()
        self.open(least=1)
        took = time.monotonic() - start
        _log.info("started again in %.0f s for %s", took, ", ".join(sorted(lost)))
