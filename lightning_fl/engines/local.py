"""The default engine: all sites in this process, one after the other."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from lightning_fl.engines.asking import ask
from lightning_fl.engines.base import Engine
from lightning_fl.wire.transport import Answering, Outcomes, Transport

T = TypeVar("T")


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

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask the sites one after the other, in the order of `payloads`."""
        del timeout
        for site, payload in payloads.items():
            reply = ask(site, self._sites[site], op, payload)
            gc.collect()
            yield site, reply


@contextmanager
def short_lived_models() -> Iterator[None]:
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

    in_process = True

    def run(
        self,
        coordinate: Callable[[Transport], T],
        make_site: Callable[[str], Answering],
        names: Sequence[str],
    ) -> T:
        """Build the sites and run the coordinator."""
        with short_lived_models():
            return coordinate(LocalTransport({name: make_site(name) for name in names}))
