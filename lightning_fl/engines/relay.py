"""A line between the coordinator and the process in which an engine's own server runs.

Some engines call their code in a process of their own. It stays there, and the coordinator where
the user started it: between the two go requests and replies, as bytes, through a socket file that
only this user can open and only a holder of the key can talk through.
"""

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Lock
from typing import Any, Self

from lightning_fl.errors import SiteError
from lightning_fl.transport import OnReply, Reply, Transport

GRACE = 30.0
"""Seconds that the far end has, beyond a call's timeout, to say that the call timed out."""
TICK = 0.5
"""Seconds between two looks at whether sites are still there."""

Call = Callable[[str, str, bytes, float], Reply | SiteError]
"""(site, op, payload, timeout) to what came of it."""


class Line:
    """One end of the line; frames are a header in JSON and a payload.

    Args:
        connection: open.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self.connection = connection
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stopped: object) -> None:
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, seconds: float, check: Callable[[], None]) -> Line:
        """The line, once the far end has called.

        Args:
            seconds: to wait.
            check: called now and then; raises when there is nothing to wait for any more.

        Raises:
            TimeoutError: nobody called.
        """
        # the listener's socket is the only way to wait for a call with an end
        socket = self._listener._listener._socket  # type: ignore[attr-defined]
        socket.settimeout(TICK)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return Line(self._listener.accept())
            except TimeoutError:
                check()
            except AuthenticationError:
                continue
        raise TimeoutError


def call_in(folder: str) -> Line:
    """The far end's line to the post in a folder.

    Raises:
        OSError: there is no post any more.
    """
    key = (Path(folder) / "key").read_bytes()
    return Line(Client(str(Path(folder) / "line"), "AF_UNIX", authkey=key))


def serve(line: Line, call: Call, threads: int) -> None:
    """The far end: make each call that the coordinator asks for, until it hangs up.

    Args:
        line: to the coordinator.
        call: reaches a site.
        threads: calls at a time, at least one for each site.
    """

    def make(header: dict[str, Any], payload: bytes) -> None:
        reply = call(header["site"], header["op"], payload, header["timeout"])
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
    """The coordinator's end: a transport whose calls are made at the far end.

    Args:
        line: to the far end.
        names: of the sites.
        alive: says which of some sites are still there, as far as this process can tell.
    """

    def __init__(
        self,
        line: Line,
        names: Sequence[str],
        alive: Callable[[str], bool] = lambda site: True,
    ) -> None:
        self._line = line
        self._names = tuple(names)
        self._alive = alive
        self._asked = 0

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites."""
        return self._names

    def close(self) -> None:
        """Hang up; the far end then stops."""
        self._line.connection.close()

    def map(
        self,
        op: str,
        payloads: Mapping[str, bytes],
        *,
        timeout: float,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply | SiteError]:
        """Ask all sites at once."""
        replies: dict[str, Reply | SiteError] = {}

        def settle(site: str, reply: Reply | SiteError) -> None:
            replies[site] = reply
            if on_reply is not None:
                on_reply(site, reply)

        waiting = self._send(op, payloads, timeout)
        end = time.monotonic() + timeout + GRACE
        while waiting and time.monotonic() < end:
            try:
                arrived = self._line.connection.poll(TICK)
                header, payload = self._line.receive() if arrived else ({}, b"")
            except (EOFError, OSError):
                break
            site = waiting.pop(header.get("id", -1), None)
            if site is not None:  # else nothing came, or what nobody waits for any more
                settle(site, _reply(site, op, header, payload))
            for number in [n for n, s in waiting.items() if not self._alive(s)]:
                gone = waiting.pop(number)
                settle(gone, SiteError(gone, op, "lost", "its process is gone"))
        kind = "timeout" if time.monotonic() >= end else "lost"
        why = {"timeout": f"no answer in {timeout:g} seconds", "lost": "the engine is gone"}[kind]
        for site in waiting.values():
            settle(site, SiteError(site, op, "timeout" if kind == "timeout" else "lost", why))
        return {site: replies[site] for site in payloads}

    def _send(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> dict[int, str]:
        """Ask, and say which number belongs to which site."""
        waiting: dict[int, str] = {}
        for site, payload in payloads.items():
            self._asked += 1
            waiting[self._asked] = site
            header = {"id": self._asked, "site": site, "op": op, "timeout": timeout}
            try:
                self._line.send(header, payload)
            except OSError:
                continue  # the loop that waits for answers finds out
        return waiting


def _reply(site: str, op: str, header: Mapping[str, Any], payload: bytes) -> Reply | SiteError:
    if "kind" in header:
        return SiteError(site, op, header["kind"], header["detail"])
    return Reply(payload, header["seconds"])
