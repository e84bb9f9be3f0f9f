"""Whose turn it is, who is late and who is lost: workers that are no processes, and no clock."""

from collections.abc import Sequence
from typing import Any

import pytest

from lightning_fl.engines.ray import cluster as ray_cluster
from lightning_fl.engines.ray.cluster import WorkerLostError
from lightning_fl.engines.ray.host import ANSWERED
from lightning_fl.engines.ray.transport import RayTransport
from lightning_fl.errors import SiteError
from lightning_fl.wire.transport import Reply


class Clock:
    """Goes on only where somebody waits."""

    now = 0.0


class Call:
    """Ends after some seconds with something."""

    def __init__(self, seconds: float, found: Any) -> None:
        self.end = Clock.now + seconds
        self.found = found


class Scripted:
    """A worker whose sites take so many seconds; it notes what happens to it."""

    def __init__(
        self, seconds: dict[str, float], *, start: float = 0.0, problems: Sequence[str] = ()
    ) -> None:
        self.names = tuple(seconds)
        self.pid = 0
        self.there = self.in_vain = False
        self.seconds = seconds
        self.start, self.problems = start, list(problems)
        self.story: list[str] = []
        self.lost: set[str] = set()

    def greet(self) -> Call:
        self.there = True
        self.story.append("start")
        return Call(self.start, (7, self.problems))

    def ask(self, site: str, op: str, payload: bytes) -> Call:
        self.story.append(site)
        found = WorkerLostError("exit code 3") if site in self.lost else (ANSWERED, payload)
        return Call(self.seconds[site], found)

    def give_up(self) -> None:
        self.there = False
        self.story.append("end")


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def finished(pending: Sequence[Call], seconds: float) -> set[Call]:
        Clock.now = max(Clock.now, min(Clock.now + seconds, *(call.end for call in pending)))
        return {call for call in pending if call.end <= Clock.now}

    def result(pending: Call) -> Any:
        if isinstance(pending.found, Exception):
            raise pending.found
        return pending.found

    monkeypatch.setattr(Clock, "now", 0.0)
    clock = "lightning_fl.engines.ray.transport.time.perf_counter"
    monkeypatch.setattr(clock, lambda: Clock.now)
    monkeypatch.setattr(ray_cluster, "finished", finished)
    monkeypatch.setattr(ray_cluster, "result", result)


def ask(*workers: Scripted, timeout: float = 3.0) -> dict[str, Reply | SiteError]:
    transport = RayTransport(workers)  # type: ignore[arg-type]
    sites = sorted(site for worker in workers for site in worker.names)
    return transport.map("op", dict.fromkeys(sites, b"x"), timeout=timeout)


def kinds(replies: dict[str, Reply | SiteError]) -> dict[str, str]:
    return {s: "ok" if isinstance(r, Reply) else r.kind for s, r in replies.items()}


def test_workers_work_at_once_and_their_sites_in_turn() -> None:
    first, second = Scripted({"A": 1, "C": 1}), Scripted({"B": 1, "D": 1})
    assert kinds(ask(first, second)) == dict.fromkeys("ABCD", "ok")
    assert Clock.now == 2
    assert first.story == ["start", "A", "C"]


def test_a_worker_is_started_once() -> None:
    worker = Scripted({"A": 0.0})
    for _ in range(2):
        ask(worker)
    assert worker.story == ["start", "A", "A"]


def test_the_timeout_counts_from_a_sites_own_turn() -> None:
    worker = Scripted({"A": 2, "B": 2, "C": 2})
    assert kinds(ask(worker)) == dict.fromkeys("ABC", "ok")


def test_a_late_site_is_ended_and_those_behind_it_get_a_new_process() -> None:
    worker, other = Scripted({"A": 9.0, "C": 0.0}), Scripted({"B": 0.0})
    replies = ask(worker, other)
    assert kinds(replies) == {"A": "timeout", "B": "ok", "C": "ok"}
    assert "no answer within 3 s; raise `engine.timeout`" in str(replies["A"])
    assert worker.story == ["start", "A", "end", "start", "C"]
    assert Clock.now == 3


def test_a_lost_site_is_told_and_its_worker_replaced_at_the_next_call() -> None:
    worker = Scripted({"A": 0.0, "B": 0.0})
    worker.lost = {"A"}
    replies = ask(worker)
    assert kinds(replies) == {"A": "lost", "B": "ok"}
    assert "its process 7 is gone: exit code 3" in str(replies["A"])
    worker.lost = set()
    assert kinds(ask(worker)) == {"A": "ok", "B": "ok"}
    assert worker.story == ["start", "A", "end", "start", "B", "A", "B"]


def test_a_start_counts_for_the_timeout() -> None:
    worker = Scripted({"A": 2}, start=2)
    assert kinds(ask(worker)) == {"A": "timeout"}


def test_a_process_that_never_starts_is_lost_and_waited_for_less_the_next_time() -> None:
    worker = Scripted({"A": 0.0}, start=9e9)
    for seconds, clock in ((300, 300), (30, 330)):
        [error] = ask(worker, timeout=3600.0).values()
        assert isinstance(error, SiteError)
        assert error.kind == "lost"
        assert f"no process could be started within {seconds} s" in error.detail
        assert clock == Clock.now
    worker.start = 20.0
    assert kinds(ask(worker, timeout=3600.0)) == {"A": "ok"}
    assert not worker.in_vain


def test_a_process_in_the_wrong_place_is_lost_with_the_reasons() -> None:
    worker = Scripted({"A": 0.0}, problems=["x has torch 1, but the coordinator 2", "no folder"])
    [error] = ask(worker).values()
    assert isinstance(error, SiteError)
    assert (error.kind, worker.there) == ("lost", False)
    assert error.detail == "x has torch 1, but the coordinator 2; no folder"


def test_each_answer_is_told_as_it_comes() -> None:
    heard: list[str] = []
    workers = [Scripted({"A": 2}), Scripted({"B": 1})]
    transport = RayTransport(workers)  # type: ignore[arg-type]
    payloads = {"A": b"1", "B": b"2"}
    replies = transport.map("op", payloads, timeout=9.0, on_reply=lambda s, _: heard.append(s))
    assert heard == ["B", "A"]
    assert list(replies) == ["A", "B"]
