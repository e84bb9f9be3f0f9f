"""Work in fresh processes, and read how much memory a process has used; Linux only."""

from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def in_fresh_process(
    function: Callable[..., T], *arguments: object, limit: float | None = None
) -> T:
    """Call a function in a process of its own, which has used no memory for anything else.

    Raises:
        EOFError: the process ended without a value; what it wrote says why.
        TimeoutError: it took longer than `limit` seconds and was ended.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()  # else a dead process's line would stay open
    try:
        if not ours.poll(limit):
            raise TimeoutError(f"{function.__name__} took more than {limit} seconds.")
        value: T = ours.recv()
        return value
    finally:
        process.kill()
        process.join()


def _answer(
    connection: Connection, function: Callable[..., object], arguments: Sequence[object]
) -> None:
    connection.send(function(*arguments))


def memory(field: str, process: int | str = "self") -> int:
    """Return bytes of resident memory: "VmRSS" is what is in use now, "VmHWM" the peak so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def forget_peak(process: int | str = "self") -> int:
    """Set the peak back to what is in use now, and return that."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return memory("VmRSS", process)
