"""The NVFlare job: what runs in the server's process, and what in each site's.

The job holds no code: it names the two classes of this file, which each side has installed and
has to allow by name.
"""

import importlib
import logging
import time
from pathlib import Path
from threading import Lock
from typing import Any

from nvflare.collab import CollabCallError, CollabRecipe, collab

from lightning_fl.engines.asking import ask
from lightning_fl.engines.nvflare.relay import PING, call_in, serve
from lightning_fl.errors import SiteError, SiteErrorKind
from lightning_fl.wire.transport import Answering, Reply

JOB = "lightning_fl"
"""Name of the job."""
BUSY = 2.0
"""Seconds that an operation waits for the one before it, which the coordinator has given up."""
PUBLISH_TIMEOUT = 600
"""Seconds for the sites' processes to start and meet."""
_log = logging.getLogger(__name__)


class CoordinatorSide:
    """Runs in the server's process and makes the calls that the coordinator asks for.

    Args:
        post: folder of the coordinator's `Post`.
        clients: NVFlare's name of each site.
    """

    def __init__(self, post: str, clients: dict[str, str]) -> None:
        self.post = post
        self.clients = clients

    @collab.main  # type: ignore[untyped-decorator]
    def relay(self) -> None:
        """Call in, and serve until the coordinator hangs up."""
        there = {proxy.name: proxy for proxy in collab.clients}
        sites = {site: there[name] for site, name in self.clients.items() if name in there}

        def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
            if site not in sites:
                return SiteError(site, op, "lost", "it takes no part in the job")
            _log.info("to %s %r: %d bytes", site, op, len(payload))
            return _call(sites[site], site, op, payload, timeout)

        serve(call_in(self.post, tuple(sites)), call, threads=4 * len(sites))


def _call(proxy: Any, site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
    start = time.perf_counter()
    try:
        said = proxy(timeout=timeout).answer(op=op, payload=payload)
    except CollabCallError as error:
        if time.perf_counter() - start >= timeout:
            return SiteError(site, op, "timeout", f"no answer in {timeout:g} seconds")
        # NVFlare says that a call timed out, too, when the site or the whole job is gone
        why = "NVFlare cannot reach it any more"
        return SiteError(site, op, "lost", why if _timed_out(error) else f"{why}: {error.cause}")
    if said["kind"]:
        return SiteError(site, op, said["kind"], said["detail"])
    return Reply(said["payload"], time.perf_counter() - start)


def _timed_out(error: CollabCallError) -> bool:
    return isinstance(error.cause, TimeoutError)


class SiteSide:
    """Runs in a hospital's process and hosts its site.

    The hospital's file lightning_fl.yaml is in the folder `local` of its startup kit. The class has
    no arguments: whoever submits a job writes them.
    """

    def __init__(self) -> None:
        self._hospital: Answering | None = None
        self._one_at_a_time = Lock()

    @collab.publish  # type: ignore[untyped-decorator]
    def answer(self, op: str, payload: bytes) -> dict[str, Any]:
        """Answer one operation; a failure is told and not raised.

        Returns:
            `payload`, and `kind` and `detail` of a SiteError, empty where there is none.
        """
        name = collab.site_name
        if op == PING:
            return {"kind": "", "detail": "", "payload": b""}
        if not self._one_at_a_time.acquire(timeout=BUSY):
            return _told("timeout", "it is still busy with what it was asked before")
        try:
            if self._hospital is None:
                self._hospital = _hospital(self._folder(), name)
            reply = ask(name, self._hospital, op, payload)
        finally:
            self._one_at_a_time.release()
        if isinstance(reply, SiteError):
            _log.warning("%s failed: %s", op, reply.detail)
            return _told(reply.kind, reply.detail)
        return {"kind": "", "detail": "", "payload": reply.payload}

    def _folder(self) -> Path | None:
        """Where the hospital's file is; None in a simulation."""
        return Path(collab.workspace.get_site_config_dir())


class SimulatedSide(SiteSide):
    """Hosts a site on the coordinator's machine, in a simulation; no hospital allows this class."""

    def _folder(self) -> Path | None:
        return None


def _hospital(folder: Path | None, name: str) -> Answering:
    # by name, for an engine stands below sites and imports none
    hospital = importlib.import_module("lightning_fl.hospital.hospital")
    answering: Answering = hospital.Hospital.of(folder, name)
    return answering


def _told(kind: SiteErrorKind, detail: str) -> dict[str, Any]:
    return {"kind": kind, "detail": detail, "payload": b""}


class Recipe(CollabRecipe):  # type: ignore[misc]  # NVFlare has no types
    """The job's recipe, for a simulation as for a deployment.

    Args:
        post: folder of the coordinator's `Post`.
        clients: NVFlare's name of each site.
        simulated: whether all processes are on the coordinator's machine.
    """

    def __init__(self, post: str, clients: dict[str, str], *, simulated: bool) -> None:
        super().__init__(
            job_name=JOB,
            server=CoordinatorSide(post, clients),
            client=SimulatedSide() if simulated else SiteSide(),
            min_clients=len(clients),
            sync_task_timeout=PUBLISH_TIMEOUT,
        )
        if not simulated:  # the job is sent to these sites alone
            self.set_per_site_config({client: {} for client in clients.values()})
        self._job.job.set_app_packages([__name__.partition(".")[0]])  # no code travels with it

    @staticmethod
    def _user_source_entries(objs: Any) -> list[tuple[str, str | None]]:
        """Nor does the source that NVFlare would add for a recipe of this kind."""
        del objs
        return []
