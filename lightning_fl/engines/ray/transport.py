"""Call sites in processes of a Ray cluster: all workers at once, a worker's sites in turn."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fl.engines.ray import cluster as ray_cluster
from lightning_fl.engines.ray.cluster import Pending, SiteWorker, WorkerLostError
from lightning_fl.engines.ray.host import ANSWERED
from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Outcomes, Reply, Transport

START = 300.0
"""Seconds after which a process that is not there counts as lost: the cluster has no room."""
AGAIN = 30.0
"""The seconds after a start in vain, or each operation would wait for `START`."""


@dataclass
class Turn:
    """One site's call, from the moment at which its worker turns to it.

    A worker has one call at a time. So the timeout counts from a site's own turn, and a process
    that hangs is ended without losing what its other sites were to be asked.

    Attributes:
        payload: shared bytes.
        worker: where the site lives.
        timeout: seconds for the whole turn, a start of the process included.
        limit: seconds from the beginning for what is under way.
        began: when, by `time.perf_counter`.
        greeting: whether the worker's process is only being started.
        pending: the call that is under way.
    """

    site: str
    op: str
    payload: Pending
    worker: SiteWorker
    timeout: float
    limit: float = 0.0
    began: float = 0.0
    greeting: bool = False
    pending: Pending = None

    def begin(self) -> "Turn":
        """Ask the site, or start a process for it where there is none."""
        self.began = time.perf_counter()
        self.greeting = not self.worker.there
        if self.greeting:
            self.limit = min(self.timeout, AGAIN if self.worker.in_vain else START)
            self.pending = self.worker.greet()
        else:
            self._ask()
        return self

    def seconds_left(self) -> float:
        """Return the seconds until the site counts as late; never negative."""
        return max(0.0, self.limit - (time.perf_counter() - self.began))

    def go_on(self) -> Reply | SiteError | None:
        """Take the result of the call that has ended.

        Returns:
            The outcome; None where the process has only been greeted and the site asked.
        """
        try:
            result = ray_cluster.result(self.pending)
        except WorkerLostError as error:
            # not asked again: whether the call had begun cannot be known
            return self._lost(f"its process {self.worker.pid or ''} is gone: {error}")
        return self._greeted(*result) if self.greeting else self._answered(*result)

    def _greeted(self, pid: int, problems: Sequence[str]) -> SiteError | None:
        self.worker.pid, self.worker.in_vain = pid, False
        if problems:
            return self._lost("; ".join(problems))
        self._ask()
        return None

    def _answered(self, kind: Any, content: Any) -> Reply | SiteError:
        if kind == ANSWERED:
            return Reply(content, time.perf_counter() - self.began)
        return SiteError(self.site, self.op, kind, content)

    def expire(self) -> SiteError:
        """Return the outcome of a turn that took too long; its process may hang and is ended."""
        if self.limit < self.timeout:
            self.worker.in_vain = True
            return self._lost(
                f"no process could be started within {self.limit:g} s; the cluster may have no "
                "room left, so set fewer `engine.workers` or wait for it"
            )
        self.worker.give_up()
        detail = f"no answer within {self.timeout:g} s; raise `engine.timeout` if it is only slow"
        return SiteError(self.site, self.op, "timeout", detail)

    def _ask(self) -> None:
        self.greeting, self.limit = False, self.timeout
        self.pending = self.worker.ask(self.site, self.op, self.payload)

    def _lost(self, detail: str) -> SiteError:
        self.worker.give_up()
        return SiteError(self.site, self.op, "lost", detail)


class RayTransport(Transport):
    """Carries bytes to sites in other processes.

    A process that is gone, or that was ended because a site in it hung, is replaced when one of
    its sites is next called; its sites are then rebuilt from their folders.

    Args:
        workers: each with its sites.
    """

    def __init__(self, workers: Sequence[SiteWorker]) -> None:
        self.workers = tuple(workers)
        self._homes = {name: worker for worker in workers for name in worker.names}

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Ask all workers at once; the timeout is for each site's own turn."""
        queues = self._queues(op, payloads, timeout)
        turns = [queue.popleft().begin() for queue in queues.values()]
        while turns:
            outcomes = _ended(turns)
            turns = [turn for turn in turns if turn.site not in outcomes]
            for site in outcomes:  # before anything else, so that no worker stands idle
                if queue := queues[self._homes[site]]:
                    turns.append(queue.popleft().begin())
            yield from outcomes.items()

    def _queues(
        self, op: str, payloads: Mapping[str, bytes], timeout: float
    ) -> dict[SiteWorker, deque[Turn]]:
        """Make the turns of each worker that has any, in the order of `payloads`."""
        distinct = {id(payload): payload for payload in payloads.values()}
        shared = {key: ray_cluster.share(payload) for key, payload in distinct.items()}
        queues: dict[SiteWorker, deque[Turn]] = {}
        for site, payload in payloads.items():
            worker = self._homes[site]
            turn = Turn(site, op, shared[id(payload)], worker, timeout)
            queues.setdefault(worker, deque()).append(turn)
        return queues


def _ended(turns: Sequence[Turn]) -> dict[str, Reply | SiteError]:
    """Wait for the turns that end next, and return the outcome of each."""
    longest = min(turn.seconds_left() for turn in turns)
    done = ray_cluster.finished([turn.pending for turn in turns], longest)
    outcomes: dict[str, Reply | SiteError] = {}
    for turn in turns:
        outcome = turn.go_on() if turn.pending in done else None
        if outcome is None and not turn.seconds_left():
            outcome = turn.expire()
        if outcome is not None:
            outcomes[turn.site] = outcome
    return outcomes
