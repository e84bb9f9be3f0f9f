"""All calls to Ray: a cluster, processes in it, and calls that are under way."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lightning_fl.engines.base import MakeSite
from lightning_fl.engines.ray.host import ROOT, Host, Surroundings
from lightning_fl.errors import ConfigError

Pending = Any
"""A call that is under way: Ray's ObjectRef."""

SMALL = 100_000
"""Payloads of fewer bytes travel with a call; larger ones lie in Ray's store."""
LONGEST = 60.0
"""Seconds of one wait at most, for Ray cannot wait without an end."""


class WorkerLostError(RuntimeError):
    """The process that was asked is gone."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Reach Ray's cluster, which is started here and stopped again where no address is given.

    Raises:
        ConfigError: there is no cluster at the address, or one of another version.
    """
    _reach(address)
    _prepare(address)
    import ray

    if ray.is_initialized():  # by somebody else, who will stop it
        yield
        return
    try:
        ray.init(
            address=address or "local",  # None would take the cluster of the variable RAY_ADDRESS
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"`engine.address` is {address!r}, but Ray "
            f"{'cannot be reached there' if address else 'did not start here'}: {error}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str | None) -> None:
    """Try an address at once, for Ray itself tries for ten minutes and more."""
    if address in (None, "auto"):
        return
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise ConfigError(
            f"Expected `engine.address` to be HOST:PORT, auto or null, but got {address!r}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"`engine.address` is {address!r}, but nothing answers there ({error}). Start a "
            "cluster by `ray start --head` (see docs/engines.md), or leave the address out."
        ) from error


def _prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported.

    A cluster listens on all interfaces and runs what it is sent. One that is started here demands
    a token, unless the user chose otherwise; ours leaves no file in the user's home.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is not None or "ray" in sys.modules:
        return
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def resources() -> list[Mapping[str, float]]:
    """Return the resources of each machine of the cluster, e.g. "CPU" and "GPU"."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class SiteWorker:
    """Sites and the process they live in; another process takes its place when it is gone.

    Args:
        names: of the sites.
        start: starts a process and does not wait for it.

    Attributes:
        pid: of the last process that was greeted.
        in_vain: whether the last start took too long.
    """

    def __init__(self, names: Sequence[str], start: Callable[[], Any]) -> None:
        self.names = tuple(names)
        self.pid = 0
        self.in_vain = False
        self._start = start
        self._actor: Any = None

    @property
    def there(self) -> bool:
        """Whether a process has been started and is not known to be gone."""
        return self._actor is not None

    def greet(self) -> Pending:
        """Start a process and ask how it is; see `Host.greet`."""
        self._actor = self._start()
        return self._actor.greet.remote()

    def ask(self, site: str, op: str, payload: Pending) -> Pending:
        """Ask a site; see `Host.handle`."""
        return self._actor.handle.remote(site, op, payload)

    def give_up(self) -> None:
        """End the process, also where it hangs."""
        if self._actor is not None:
            import ray

            with suppress(Exception):  # it may be gone, and Ray with it
                ray.kill(self._actor)
            self._actor = None


def worker_for(
    names: Sequence[str], make_site: MakeSite, surroundings: Surroundings, cpus: float, gpus: float
) -> SiteWorker:
    """Make a worker for some sites, whose process is started when it is first greeted."""
    import ray

    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": str(surroundings.threads),
    }
    if not gpus:  # else `accelerator: auto` would let all workers share one
        variables["CUDA_VISIBLE_DEVICES"] = ""
    actor = ray.remote(Host).options(
        num_cpus=cpus, num_gpus=gpus, runtime_env={"env_vars": variables}
    )
    return SiteWorker(names, lambda: actor.remote(make_site, surroundings))


def share(payload: bytes) -> Pending:
    """Store bytes once for all that get them; few bytes stay as they are."""
    if len(payload) < SMALL:
        return payload
    import ray

    return ray.put(payload)


def finished(pending: Sequence[Pending], seconds: float) -> set[Pending]:
    """Return the calls that have ended; wait until one has, or for so many seconds at most."""
    import ray

    ready, _ = ray.wait(list(pending), num_returns=1, timeout=min(seconds, LONGEST))
    if ready:  # others may have ended in the same moment
        ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
    return set(ready)


def result(pending: Pending) -> Any:
    """Return what a call that has ended gives.

    Raises:
        WorkerLostError: the process ended before it could answer.
    """
    import ray

    try:
        return ray.get(pending)
    except ray.exceptions.RayError as error:
        # the part of Ray's long message that says what happened
        last = (str(error).strip().splitlines() or ["its process is gone"])[-1]
        detail = last.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
        raise WorkerLostError(detail.strip()) from error
