"""A line between the coordinator and the process in which an engine's own server runs.

Some engines call their code in a process of their own. It stays there, and the coordinator where
the user started it: between the two go requests and replies, as bytes, through a socket file that
only this user can open and only a holder of the key can talk through.
"""

import json
import os
import secrets
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from threading import Lock
from typing import Any

from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Outcomes, Reply, Transport

GRACE = 30
"""Seconds that the far end has, beyond a call's timeout, to say that the call timed out."""
TICK = 0.5
"""Seconds between two looks at whether sites are still there."""

PING = "ping"
"""The operation that a site's process answers at once, whatever it is doing."""
EVERY = 10.0
"""Seconds between two pings of a site that has not answered yet."""
SILENCE = 60.0
"""Seconds without an answer to any ping after which a site is lost; a busy one may be slow."""

Call = Callable[[str, str, bytes, float], Reply | SiteError]
"""(site, op, payload, timeout) to what came of it."""


class Line:
    """One end of the line; frames are a header in JSON and a payload.

    Args:
        connection: open.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self.connection = connection
        # an end that does not read must not hold up the other for ever
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", GRACE, 0))
        self._sending = Lock()

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Send a frame; several threads may.

        Raises:
            OSError: the other end is gone.
        """
        with self._sending:
            self.connection.send_bytes(json.dumps(header).encode())
            self.connection.send_bytes(payload)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next frame.

        Raises:
            EOFError: the other end is gone.
            OSError: the same, in the middle of a frame.
        """
        header: dict[str, Any] = json.loads(self.connection.recv_bytes())
        return header, self.connection.recv_bytes()


class Post:
    """Where the far end calls in: a socket file and a key file in a folder of this user's own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lightning-fl-"))  # readable by this user alone
        self._key = secrets.token_bytes(32)
        (self.folder / "key").write_bytes(self._key)
        self._listener = Listener(str(self.folder / "line"), "AF_UNIX", authkey=self._key)

    def close(self) -> None:
        """Nobody can call in any more."""
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self, seconds: float, check: Callable[[], None]) -> Line:
        """The line of the next far end that calls in.

        Args:
            seconds: to wait.
            check: called now and then; raises when there is nothing to wait for any more.

        Raises:
            TimeoutError: nobody called.
        """
        # the listener's socket is the only way to wait for a call with an end
        listening = self._listener._listener._socket  # type: ignore[attr-defined]
        listening.settimeout(TICK)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return Line(self._listener.accept())
            except TimeoutError:
                check()
            except AuthenticationError:
                continue
        raise TimeoutError


def call_in(folder: str, sites: Sequence[str]) -> Line:
    """The far end's line to the post in a folder, on which it has said which sites it reaches.

    Raises:
        OSError: there is no post any more.
    """
    key = (Path(folder) / "key").read_bytes()
    line = Line(Client(str(Path(folder) / "line"), "AF_UNIX", authkey=key))
    line.send({"sites": list(sites)})
    return line


def serve(line: Line, call: Call, threads: int) -> None:
    """The far end: make each call that the coordinator asks for, until it hangs up.

    Args:
        line: to the coordinator.
        call: reaches a site.
        threads: calls at a time: one for each site, and its pings.
    """

    def make(header: dict[str, Any], payload: bytes) -> None:
        try:
            reply = call(header["site"], header["op"], payload, header["timeout"])
        except Exception as error:  # whatever the engine raises, somebody waits for an answer
            reply = SiteError(header["site"], header["op"], "lost", repr(error))
        if isinstance(reply, SiteError):
            line.send({"id": header["id"], "kind": reply.kind, "detail": reply.detail})
        else:
            line.send({"id": header["id"], "seconds": reply.seconds}, reply.payload)

    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            pool.submit(make, *line.receive())
    except (EOFError, OSError):
        pool.shutdown(wait=False, cancel_futures=True)


class RelayTransport(Transport):
    """The coordinator's end: a transport whose calls are made at the far ends of its lines.

    Args:
        names: of the sites.
        alive: says which of some sites are still there, as far as this process can tell.
    """

    def __init__(
        self, names: Sequence[str], alive: Callable[[str], bool] = lambda site: True
    ) -> None:
        self._names = tuple(names)
        self._alive = alive
        self._lines: dict[str, Line] = {}
        self._asked = 0

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites."""
        return self._names

    def connect(self, line: Line) -> tuple[str, ...]:
        """Reach the sites that a far end says it reaches, from now on by this line.

        Returns:
            Their names.
        """
        header, _ = line.receive()
        reached = tuple(header["sites"])
        self._lines |= dict.fromkeys(reached, line)
        return reached

    def hang_up(self, sites: Sequence[str]) -> None:
        """Close the lines to some sites; their far ends then stop."""
        for line in {id(s): s for s in map(self._lines.get, sites) if s is not None}.values():
            self._forget(line)

    def _forget(self, line: Line) -> None:
        line.connection.close()
        self._lines = {site: other for site, other in self._lines.items() if other is not line}

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask all sites at once."""
        waiting = self._send(op, payloads, timeout)
        pulse = Pulse(waiting.values())
        end = time.monotonic() + timeout + GRACE
        while waiting and time.monotonic() < end:
            if due := pulse.due(waiting.values()):
                pulse.sent |= self._send(PING, dict.fromkeys(due, b""), SILENCE)
            for header, payload in self._arrived(waiting.values()):
                pulse.hear(header)
                site = waiting.pop(header["id"], None)
                if site is not None:  # else it was a ping, or nobody waits for it any more
                    yield site, _reply(site, op, header, payload)
            for number, site in list(waiting.items()):
                if why := self._why_lost(site, pulse):
                    del waiting[number]
                    yield site, SiteError(site, op, "lost", why)
        for site in waiting.values():
            yield site, SiteError(site, op, "timeout", f"no answer in {timeout:g} seconds")

    def _why_lost(self, site: str, pulse: "Pulse") -> str:
        """Why a site is lost; "" where it is not."""
        if site not in self._lines or not self._alive(site):
            return "its process is gone"
        if pulse.silent(site):
            return f"nothing has been heard of its process for {SILENCE:g} seconds"
        return ""

    def _send(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> dict[int, str]:
        """Ask, and say which number belongs to which site."""
        waiting: dict[int, str] = {}
        for site, payload in payloads.items():
            self._asked += 1
            waiting[self._asked] = site
            header = {"id": self._asked, "site": site, "op": op, "timeout": timeout}
            line = self._lines.get(site)
            if line is not None:
                try:
                    line.send(header, payload)
                except OSError:  # gone, or it does not read; whoever waits for answers finds out
                    self._forget(line)
        return waiting

    def _arrived(self, sites: Iterable[str]) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Frames that are there, after a short wait; lines that have broken are forgotten."""
        by_connection = {
            line.connection: line for site in sites if (line := self._lines.get(site)) is not None
        }
        for connection in wait(list(by_connection), TICK):
            line = by_connection[connection]  # type: ignore[index]
            try:
                yield line.receive()
            except (EOFError, OSError):
                self._forget(line)


class Pulse:
    """Whether sites that are slow to answer are there at all; no engine's heartbeat is relied on.

    Args:
        sites: names.

    Attributes:
        sent: which ping belongs to which site.
    """

    def __init__(self, sites: Iterable[str]) -> None:
        now = time.monotonic()
        self._heard = dict.fromkeys(sites, now)
        self._pinged = now
        self.sent: dict[int, str] = {}

    def due(self, sites: Iterable[str]) -> tuple[str, ...]:
        """Sites to ping now."""
        if time.monotonic() < self._pinged + EVERY:
            return ()
        self._pinged = time.monotonic()
        return tuple(sites)

    def hear(self, header: Mapping[str, Any]) -> None:
        """A frame has come; perhaps it answers a ping."""
        site = self.sent.pop(header["id"], None)
        if site is not None and "kind" not in header:
            self._heard[site] = time.monotonic()

    def silent(self, site: str) -> bool:
        """Whether a site has been silent for too long."""
        return time.monotonic() > self._heard[site] + SILENCE


def _reply(site: str, op: str, header: Mapping[str, Any], payload: bytes) -> Reply | SiteError:
    if "kind" in header:
        return SiteError(site, op, header["kind"], header["detail"])
    return Reply(payload, header["seconds"])
