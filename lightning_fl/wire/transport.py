"""Carry bytes from the coordinator to named sites; each gives an answer or a SiteError."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from lightning_fl.errors import SiteError


class Reply(NamedTuple):
    """A site's answer and the seconds from the question to it."""

    payload: bytes
    seconds: float


class Answering(Protocol):
    """A site as an engine hosts it."""

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation."""
        ...


OnReply = Callable[[str, "Reply | SiteError"], None]
Outcomes = Iterator[tuple[str, "Reply | SiteError"]]


class Transport(ABC):
    """Carries bytes to sites; knows nothing of models, rounds or keys."""

    @abstractmethod
    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask several sites at once.

        A site's failure is a value and is not raised: it must not lose the others' answers.

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
        """Ask several sites at once, as `outcomes` does, and wait for all.

        Returns:
            The outcome of each site, in the order of `payloads`. `on_reply` hears of each as soon
            as it is there.
        """
        replies: dict[str, Reply | SiteError] = {}
        for site, reply in self.outcomes(op, payloads, timeout):
            replies[site] = reply
            if on_reply is not None:
                on_reply(site, reply)
        return {site: replies[site] for site in payloads}
