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

from lightning_fl.engines.local import ask
from lightning_fl.engines.nvflare.line import call_in, serve
from lightning_fl.engines.nvflare.names import HOSPITAL_MODULE
from lightning_fl.engines.nvflare.relay import PING
from lightning_fl.errors import SiteError
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

    The coordinator itself stays in train.py, so Ctrl-C, resume, exit status and report are those
    of every engine.

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
        proxies = {proxy.name: proxy for proxy in collab.clients}
        sites = {site: proxies[name] for site, name in self.clients.items() if name in proxies}

        def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
            if site not in sites:
                return SiteError(site, op, "lost", "it takes no part in the job")
            _log.info("to %s %r: %d bytes", site, op, len(payload))
            return _call(sites[site], site, op, payload, timeout)

        serve(call_in(self.post, tuple(sites)), call, threads=4 * len(sites))


def _call(proxy: Any, site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
    start = time.perf_counter()
    try:
        answer = proxy(timeout=timeout).answer(op=op, payload=payload)
    except CollabCallError as error:
        if time.perf_counter() - start >= timeout:
            return SiteError(site, op, "timeout", f"no answer in {timeout:g} seconds")
        # NVFlare says that a call timed out, too, when the site or the whole job is gone
        detail = "" if isinstance(error.cause, TimeoutError) else f": {error.cause}"
        return SiteError(site, op, "lost", f"NVFlare cannot reach it any more{detail}")
    if answer["kind"]:
        return SiteError(site, op, answer["kind"], answer["detail"])
    return Reply(answer["payload"], time.perf_counter() - start)


class SiteSide:
    """Runs in a hospital's process and hosts its site.

    The hospital's file lightning_fl.yaml is in the folder `local` of its startup kit. The class has
    no arguments: whoever submits a job writes them.
    """

    def __init__(self) -> None:
        self._host: Answering | None = None
        self._one_at_a_time = Lock()

    @collab.publish  # type: ignore[untyped-decorator]
    def answer(self, op: str, payload: bytes) -> dict[str, Any]:
        """Answer one operation; a failure is told and not raised.

        Returns:
            `payload`, and `kind` and `detail` of a SiteError, empty where there is none.
        """
        if op == PING:
            return _outcome()
        if not self._one_at_a_time.acquire(timeout=BUSY):
            return _outcome("timeout", "it is still busy with what it was asked before")
        try:
            if self._host is None:
                self._host = self._make_host()
            reply = ask(collab.site_name, self._host.handle, op, payload)
        finally:
            self._one_at_a_time.release()
        if isinstance(reply, SiteError):
            _log.warning("%s failed: %s", op, reply.detail)
            return _outcome(reply.kind, reply.detail)
        return _outcome(payload=reply.payload)

    def _make_host(self) -> Answering:
        return _hospital(Path(collab.workspace.get_site_config_dir()), collab.site_name)


class SimulatedSide(SiteSide):
    """Hosts a site on the coordinator's machine, in a simulation; no hospital allows this class."""

    def _make_host(self) -> Answering:
        return _hospital(None)  # NVFlare's name of a simulated site is not the site's


def _hospital(folder: Path | None, name: str = "") -> Answering:
    hospital: Answering = importlib.import_module(HOSPITAL_MODULE).Hospital(folder, name)
    return hospital


def _outcome(kind: str = "", detail: str = "", payload: bytes = b"") -> dict[str, Any]:
    return {"kind": kind, "detail": detail, "payload": payload}


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
        """Leave out the source that NVFlare would add for a recipe of this kind."""
        del objs
        return []
