"""How a coordinator reaches sites: bytes to named sites, answers or a SiteError each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from lightning_fl.errors import SiteError


class Reply(NamedTuple):
    """A site's answer and the seconds from asking to hearing it."""

    payload: bytes
    seconds: float


class Answering(Protocol):
    """The hospital's side: what an engine hosts."""

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation."""
        ...


OnReply = Callable[[str, "Reply | SiteError"], None]
Outcomes = Iterator[tuple[str, "Reply | SiteError"]]


class Transport(ABC):
    """Carries bytes to sites; knows nothing of models, rounds or keys."""

    @property
    @abstractmethod
    def sites(self) -> Sequence[str]:
        """Names of the sites that can be reached; they never change."""

    @abstractmethod
    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask several sites at once; one site's failure does not lose another's answer.

        Args:
            op: name of the operation.
            payloads: what to send, by site.
            timeout: seconds after which a site counts as late.

        Yields:
            Each site once, as it answers or fails: its reply, or the SiteError that says why there
            is none.
        """

    def map(
        self,
        op: str,
        payloads: Mapping[str, bytes],
        *,
        timeout: float,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply | SiteError]:
        """Ask several sites at once, and wait for all.

        Args:
            op: name of the operation.
            payloads: what to send, by site.
            timeout: seconds after which a site counts as late.
            on_reply: told of each site as it answers or fails.

        Returns:
            The outcome of each site, in the order of `payloads`; see `outcomes`.
        """
        replies: dict[str, Reply | SiteError] = {}
        for site, reply in self.outcomes(op, payloads, timeout):
            replies[site] = reply
            if on_reply is not None:
                on_reply(site, reply)
        return {site: replies[site] for site in payloads}
