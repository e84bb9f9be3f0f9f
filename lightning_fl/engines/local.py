"""The default engine: all sites in this process, one after the other."""

import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from lightning_fl.engines.base import Engine
from lightning_fl.errors import NonFiniteError, SiteError, SiteErrorKind
from lightning_fl.transport import Answering, OnReply, Reply, Transport

T = TypeVar("T")
_log = logging.getLogger(__name__)


class LocalTransport(Transport):
    """Calls sites directly; bytes go in and out as they would over a network.

    A site that raises is reported as a SiteError whose cause is what it raised. A call runs in
    the caller's thread and cannot be interrupted, so no site is ever late here.
    """

    def __init__(self, sites: Mapping[str, Answering]) -> None:
        self._sites = dict(sites)

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites."""
        return tuple(self._sites)

    def map(
        self,
        op: str,
        payloads: Mapping[str, bytes],
        *,
        timeout: float,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply | SiteError]:
        """Ask the sites one after the other, in the order of `payloads`."""
        replies: dict[str, Reply | SiteError] = {}
        for site, payload in payloads.items():
            replies[site] = self._call(site, op, payload)
            gc.collect()
            if on_reply is not None:
                on_reply(site, replies[site])
        return replies

    def _call(self, site: str, op: str, payload: bytes) -> Reply | SiteError:
        start = time.perf_counter()
        try:
            answer = self._sites[site].handle(op, payload)
        except Exception as error:  # the boundary of a site: whatever it raises is its failure
            kind: SiteErrorKind = "non_finite" if isinstance(error, NonFiniteError) else "failed"
            failure = SiteError(site, op, kind, f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            _log.debug("site %s failed in %s", site, op, exc_info=error)
            if error.__traceback__ is not None:  # its frames hold the site's model and batches
                traceback.clear_frames(error.__traceback__)
            return failure
        except SystemExit as stopped:
            if isinstance(stopped.__context__, KeyboardInterrupt):  # Lightning hides Ctrl-C so
                raise KeyboardInterrupt from stopped
            raise
        return Reply(answer, time.perf_counter() - start)


@contextmanager
def _short_lived_models() -> Iterator[None]:
    """Keep garbage collection cheap, so that each operation's models can be freed at its end.

    Trainers, modules and optimisers hold each other in cycles, which Python frees only when it
    looks for them. Looking is quick once the libraries' own objects are set aside.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Local(Engine):
    """All sites in this process, one model on the accelerator at a time.

    Args:
        timeout: has no effect here; a call in the same thread cannot be interrupted.
    """

    def run(
        self,
        coordinate: Callable[[Transport], T],
        make_site: Callable[[str], Answering],
        names: Sequence[str],
    ) -> T:
        """Build the sites and run the coordinator."""
        with _short_lived_models():
            return coordinate(LocalTransport({name: make_site(name) for name in names}))
