"""Wait for an event, as long as a busy machine may need."""

import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds after which a test fails that still waits."""


def wait_until(happened: Callable[[], bool]) -> None:
    """Return when something has happened; fail if it never does."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"{happened} has not happened"
        time.sleep(0.02)


class Clock:
    """Stands in for the module `time` where a test decides how late it is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now
