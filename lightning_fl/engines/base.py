"""What an engine is: it hosts sites and hands the coordinator a transport to them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from lightning_fl.errors import ConfigError
from lightning_fl.wire.transport import Answering, Transport

T = TypeVar("T")
MakeSite = Callable[[str], Answering]
"""Builds the site of a name."""


@runtime_checkable
class PortableSites(Protocol):
    """A `MakeSite` that is text alone, so that it can build sites anywhere; a run has one."""

    settings: str
    folder: str
    run: str
    threads: int | None

    def __call__(self, name: str) -> Answering:
        """Build one site."""
        ...


class Engine(ABC):
    """Where sites live while a federation runs.

    Args:
        timeout: seconds after which a site that has not answered is dropped from the round.

    Attributes:
        in_process: whether sites live in the coordinator's process; else `make_site` travels to
            them, and a run gives one that is text alone.
        sites: the hospitals, where the coordinator has none of their data to list them from; ()
            where it has.
    """

    in_process: ClassVar[bool] = False
    sites: tuple[str, ...] = ()

    def __init__(self, *, timeout: float = 3600.0) -> None:
        if not timeout > 0:
            raise ConfigError(f"Expected `timeout` to be positive, but got {timeout}.")
        self.timeout = timeout

    @abstractmethod
    def run(
        self, coordinate: Callable[[Transport], T], make_site: MakeSite, names: Sequence[str]
    ) -> T:
        """Start the sites, let the coordinator do its work, and stop the sites.

        Args:
            coordinate: the coordinator; called once with a transport to the sites.
            make_site: builds one site, on the machine where it will live.
            names: the sites.

        Returns:
            What `coordinate` returns.
        """
