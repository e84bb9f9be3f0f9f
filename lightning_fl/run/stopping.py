"""Let SIGTERM end a program as Ctrl-C does, with an exit status of its own."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED, STOPPED_BY_SIGTERM = 130, 143
"""Exit statuses: 128 and the number of the signal, SIGINT or SIGTERM."""


@contextmanager
def sigterm_interrupts() -> Iterator[threading.Event]:
    """Raise `KeyboardInterrupt` on SIGTERM, by which Slurm and Docker end a process.

    Lightning calls a handler that is there before its own. Without one, a fit ends as if it were
    done, and an evaluation does not end.

    Yields:
        What tells afterwards whether SIGTERM came.
    """
    received = threading.Event()

    def interrupt(*_: object) -> None:
        received.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # no signals come there
        yield received
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def stopped_status(sigterm: threading.Event) -> int:
    """Return the exit status of a program that was interrupted."""
    return STOPPED_BY_SIGTERM if sigterm.is_set() else STOPPED
