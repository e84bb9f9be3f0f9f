"""A line between the coordinator and the process in which an engine's own server runs.

Some engines call their code in a process of their own. It stays there, and the coordinator where
the user started it. Requests and replies go between the two as bytes, through a socket file that
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Lock
from typing import Any

from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Reply

GRACE = 30
"""Seconds that the far end has, beyond a call's timeout, to say that the call timed out."""
TICK = 0.5
"""Seconds between two looks at whether sites are still there."""
Call = Callable[[str, str, bytes, float], Reply | SiteError]
"""Asks a site (site, operation, payload, timeout) and returns the outcome."""


class Line:
    """One end of the line; frames are a header in JSON and a payload."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self.connection = connection
        # an end that does not read must not hold up the other for ever
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", GRACE, 0))
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
        """Receive the next frame.

        Raises:
            EOFError: the other end is gone.
            OSError: it went in the middle of a frame.
        """
        header: dict[str, Any] = json.loads(self.connection.recv_bytes())
        return header, self.connection.recv_bytes()


class Post:
    """Where the far end calls in: a socket file and a key file in a folder of this user's own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lightning-fl-"))  # readable by this user alone
        key = secrets.token_bytes(32)
        (self.folder / "key").write_bytes(key)
        self._listener = Listener(str(self.folder / "line"), "AF_UNIX", authkey=key)

    def close(self) -> None:
        """Let nobody call in any more."""
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self, seconds: float, check: Callable[[], None]) -> Line:
        """Return the line of the next far end that calls in.

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
    """Open the far end's line to the post in a folder, and say which sites it reaches.

    Raises:
        OSError: there is no post any more.
    """
    key = (Path(folder) / "key").read_bytes()
    line = Line(Client(str(Path(folder) / "line"), "AF_UNIX", authkey=key))
    line.send({"sites": list(sites)})
    return line


def serve(line: Line, call: Call, threads: int) -> None:
    """Make, at the far end, each call that the coordinator asks for, until it hangs up.

    So many `threads` make calls at a time: one for each site, and some for its pings.
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
