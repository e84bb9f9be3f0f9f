"""What the NVFlare engine needs of the processes that host its sites."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

END = 5.0
"""Seconds for processes to end by themselves before they are ended."""


class Jobs(ABC):
    """Starts and stops the processes that host sites, simulated or at hospitals."""

    @abstractmethod
    def start(self, post: Path, sites: Sequence[str]) -> None:
        """Start what hosts some sites; it then calls in at the coordinator's `Post`.

        Raises:
            ConfigError: they cannot be started.
        """

    @abstractmethod
    def check(self) -> None:
        """See whether what was started still runs.

        Raises:
            ConfigError: it does not; says why as far as it is known.
        """

    @abstractmethod
    def stop(self, sites: Sequence[str]) -> None:
        """End what hosts some sites, once the coordinator has hung up."""

    @abstractmethod
    def returning(self, lost: Sequence[str]) -> tuple[str, ...]:
        """Return the sites to start, others along with them, so that lost ones come back.

        The result is () where none of the lost ones can be there again yet.
        """

    def close(self) -> None:  # noqa: B027  not all need it
        """Give back what is held beside jobs."""

    def welcome(self, processes: Mapping[str, int]) -> None:  # noqa: B027  not all need it
        """Hear the number of each site's process."""

    def is_alive(self, site: str) -> bool:
        """Say whether a site's process is there, as far as can be seen from here."""
        del site
        return True

    def kill(self, site: str) -> bool:
        """End a site's process that hangs, where it is on this machine; say whether it could."""
        del site
        return False
