"""Work in fresh processes, and read how much memory a process has used; Linux only."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def in_fresh_process(
    function: Callable[..., T], *arguments: object, limit: float | None = None
) -> T:
    """Call a function in a process of its own, which has used no memory for anything else.

    Raises:
        TimeoutError: it took longer than `limit` seconds and was ended.
    """
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    try:
        return pool.submit(function, *arguments).result(limit)
    finally:
        for process in active_children():
            process.kill()
        pool.shutdown()


def memory(field: str, process: int | str = "self") -> int:
    """Return bytes of resident memory: "VmRSS" is what is in use now, "VmHWM" the peak so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def forget_peak(process: int | str = "self") -> int:
    """Set the peak back to what is in use now, and return that."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return memory("VmRSS", process)
