"""Host all sites in this process, one after the other: the default engine."""

import gc
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from lightning_fl.engines.base import Engine, MakeSite, T
from lightning_fl.errors import NonFiniteError, SiteError, SiteErrorKind
from lightning_fl.wire.transport import Answering, Outcomes, Reply, Transport

_log = logging.getLogger(__name__)


def ask(
    site: str, handle: Callable[[str, bytes], bytes], op: str, payload: bytes
) -> Reply | SiteError:
    """Ask a site that lives in this process.

    Returns:
        The reply with the seconds it took, or a SiteError whose cause is what `handle` raised.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where Lightning made a SystemExit of it.
    """
    start = time.perf_counter()
    try:
        answer = handle(op, payload)
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


class LocalTransport(Transport):
    """Calls sites directly; bytes go in and out as they would over a network.

    A call runs in the caller's thread and cannot be interrupted, so no site is ever late here.
    """

    def __init__(self, sites: Mapping[str, Answering]) -> None:
        self._sites = dict(sites)

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask the sites one after the other, in the order of `payloads`."""
        del timeout
        for site, payload in payloads.items():
            reply = ask(site, self._sites[site].handle, op, payload)
            gc.collect()
            yield site, reply


def set_libraries_aside() -> None:
    """Keep garbage collection cheap, so that each operation's models can be freed at its end.

    Trainers, modules and optimisers hold each other in cycles, which Python frees only when it
    looks for them. Looking is quick once the libraries' own objects are set aside.
    """
    gc.collect()
    gc.freeze()


class Local(Engine):
    """All sites in this process, one model on the accelerator at a time.

    Args:
        timeout: has no effect here; a call in the same thread cannot be interrupted.
    """

    in_process = True

    def run(
        self, coordinate: Callable[[Transport], T], make_site: MakeSite, names: Sequence[str]
    ) -> T:
        """Build the sites and run the coordinator."""
        set_libraries_aside()
        try:
            return coordinate(LocalTransport({name: make_site(name) for name in names}))
        finally:
            gc.unfreeze()
