"""Run jobs in several worker processes; one that dies takes no other with it."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

from study.worker import Job, serve

PATIENCE = 10.0
"""Seconds that a worker has to end itself before it is killed."""


class Listener(Protocol):
    """Hears how the jobs go."""

    def on_start(self, job: Job) -> None:
        """Hear that a worker has begun."""

    def on_end(self, job: Job, reason: str) -> None:
        """Hear that a job is over; `reason` says why it failed, "" if it did not."""


@dataclass(frozen=True)
class TrainingProcess:
    """A worker: a process that does one job after another, and the line to it.

    Not a process for each job: importing torch costs seconds.
    """

    process: SpawnProcess
    connection: Connection

    def takes(self, job: Job) -> bool:
        """Send a job, and say whether there was a process to send it to."""
        try:
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answer(self) -> str:
        """Wait for the reason of a failure, or ""; a worker that died answers nothing."""
        try:
            reason: str = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            end = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            return f"its process {end}; where memory ran out, try fewer --jobs"
        return reason

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.connection.close()
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def perform_all(jobs: Sequence[Job], workers: int, listener: Listener) -> None:
    """Do all jobs; returns when each has ended, and leaves no process behind.

    Args:
        jobs: in the order in which they begin.
        workers: how many at a time; several of them use one thread each.
        listener: hears of each begin and end.
    """
    waiting = deque(jobs)
    started: list[TrainingProcess] = []
    idle: list[TrainingProcess] = []
    busy: dict[Connection, tuple[TrainingProcess, Job]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                job = waiting.popleft()
                worker = _give(job, idle, started, one_thread=workers > 1)
                busy[worker.connection] = worker, job
                listener.on_start(job)
            for connection in wait(list(busy)):
                worker, job = busy[connection]  # type: ignore[index]  # it is one of ours
                reason = worker.answer()
                del busy[worker.connection]
                if worker.process.is_alive():
                    idle.append(worker)
                else:
                    worker.stop()
                listener.on_end(job, reason)
    finally:
        for worker in started:  # also one that was about to get a job
            worker.stop()


def _give(
    job: Job, idle: list[TrainingProcess], started: list[TrainingProcess], *, one_thread: bool
) -> TrainingProcess:
    """Give a job to an idle worker, or to a fresh one where those have died meanwhile."""
    while idle:
        worker = idle.pop()
        if worker.takes(job):
            return worker
        worker.stop()
    worker = _start(one_thread=one_thread)
    started.append(worker)
    worker.takes(job)  # if it is dead too, the job fails: `answer` hears of it
    return worker


def _start(*, one_thread: bool) -> TrainingProcess:
    context = get_context("spawn")  # a fork would copy torch's threads in mid-air
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    with _one_thread() if one_thread else nullcontext():
        process.start()
    theirs.close()  # else a dead worker's line would stay open
    return TrainingProcess(process, ours)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let a process that starts now use one thread; torch asks once, when imported."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
