"""Ask sites at the far ends of lines, and find out which of them are lost."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

from lightning_fl.engines.nvflare.line import GRACE, TICK, Line
from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Outcomes, Reply, Transport

PING = "ping"
"""The operation that a site's process answers at once, whatever it is doing."""
EVERY = 10.0
"""Seconds between two pings of a site that has not answered yet."""
SILENCE = 60.0
"""Seconds without an answer to any ping after which a site is lost; a busy one may be slow."""


class RelayTransport(Transport):
    """The coordinator's end: a transport whose calls are made at the far ends of its lines.

    Args:
        alive: says whether a site is still there, as far as this process can tell.
    """

    def __init__(self, alive: Callable[[str], bool] = lambda site: True) -> None:
        self._alive = alive
        self._lines: dict[str, Line] = {}
        self._last_id = 0

    def connect(self, line: Line) -> tuple[str, ...]:
        """Use a line from now on for the sites that its far end reaches; return their names."""
        header, _ = line.receive()
        reached = tuple(header["sites"])
        self._lines |= dict.fromkeys(reached, line)
        return reached

    def hang_up(self, sites: Sequence[str]) -> None:
        """Close the lines to some sites; their far ends then stop."""
        for line in {self._lines[site] for site in sites if site in self._lines}:
            self._forget(line)

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask all sites at once."""
        waiting = self._send(op, payloads, timeout)
        pulse = _Pulse(payloads)
        end = time.monotonic() + timeout + GRACE
        while waiting and time.monotonic() < end:
            if pulse.is_due():
                pings = dict.fromkeys(waiting.values(), b"")
                pulse.pings |= self._send(PING, pings, SILENCE)
            for header, payload in self._arrived(waiting.values()):
                pulse.hear(header)
                site = waiting.pop(header["id"], None)
                if site is not None:  # else it was a ping, or nobody waits for it any more
                    yield site, _outcome(site, op, header, payload)
            for number, site in list(waiting.items()):
                if detail := self._why_lost(site, pulse):
                    del waiting[number]
                    yield site, SiteError(site, op, "lost", detail)
        for site in waiting.values():
            yield site, SiteError(site, op, "timeout", f"no answer in {timeout:g} seconds")

    def _send(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> dict[int, str]:
        """Send requests, and return which number belongs to which site."""
        waiting: dict[int, str] = {}
        for site, payload in payloads.items():
            self._last_id += 1
            waiting[self._last_id] = site
            header = {"id": self._last_id, "site": site, "op": op, "timeout": timeout}
            if site in self._lines:
                try:
                    self._lines[site].send(header, payload)
                except OSError:  # gone, or it does not read; `_why_lost` tells
                    self._forget(self._lines[site])
        return waiting

    def _arrived(self, sites: Iterable[str]) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield frames that are there, after a short wait; forget lines that have broken."""
        lines = {line.connection: line for site in sites if (line := self._lines.get(site))}
        for connection in wait(list(lines), TICK):
            line = lines[connection]  # type: ignore[index]
            try:
                yield line.receive()
            except (EOFError, OSError):
                self._forget(line)

    def _forget(self, line: Line) -> None:
        line.connection.close()
        self._lines = {site: other for site, other in self._lines.items() if other is not line}

    def _why_lost(self, site: str, pulse: "_Pulse") -> str:
        """Say why a site is lost; "" where it is not."""
        if site not in self._lines or not self._alive(site):
            return "its process is gone"
        if pulse.is_silent(site):
            return f"nothing has been heard of its process for {SILENCE:g} seconds"
        return ""


class _Pulse:
    """Tells whether sites that are slow to answer are there; no engine's heartbeat is relied on.

    Attributes:
        pings: which ping belongs to which site.
    """

    def __init__(self, sites: Iterable[str]) -> None:
        self._pinged = time.monotonic()
        self._heard = dict.fromkeys(sites, self._pinged)
        self.pings: dict[int, str] = {}

    def is_due(self) -> bool:
        """Say whether to ping now."""
        due = time.monotonic() >= self._pinged + EVERY
        if due:
            self._pinged = time.monotonic()
        return due

    def hear(self, header: Mapping[str, Any]) -> None:
        """Note when a site has answered a ping."""
        site = self.pings.pop(header["id"], None)
        if site is not None and "kind" not in header:
            self._heard[site] = time.monotonic()

    def is_silent(self, site: str) -> bool:
        """Say whether a site has been silent for too long."""
        return time.monotonic() > self._heard[site] + SILENCE


def _outcome(site: str, op: str, header: Mapping[str, Any], payload: bytes) -> Reply | SiteError:
    if "kind" in header:
        return SiteError(site, op, header["kind"], header["detail"])
    return Reply(payload, header["seconds"])
