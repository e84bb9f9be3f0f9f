"""Workers with a fake train.py: they start in a fraction of a second."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from study import pool
from study.pool import perform_all
from study.worker import Job
from tests.processes import children


class Ear:
    """Remembers how jobs ended."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.reasons: dict[str, str] = {}

    def on_start(self, job: Job) -> None:
        self.started.append(job.name)

    def on_end(self, job: Job, reason: str) -> None:
        self.reasons[job.name] = reason


def jobs(folder: Path, *names: str) -> list[Job]:
    found = []
    for name in names:
        place = folder / "all" / name
        found.append(Job(name, ("--output", str(place)), place / "run.log"))
    return found


@pytest.mark.usefixtures("fake_train")
@pytest.mark.parametrize("workers", [1, 2])
def test_each_kind_of_failure_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    failing = {"local/0": "kill", "local/1": "raise", "local/2": "refuse", "local/3": "exit"}
    monkeypatch.setenv("FAKE", json.dumps(failing))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ear = Ear()
    perform_all(jobs(tmp_path, *failing, "fedavg/0", "fedavg/1"), workers, ear)
    assert ear.started == [*failing, "fedavg/0", "fedavg/1"]
    assert "its process was killed by signal 9" in ear.reasons["local/0"]
    assert ear.reasons["local/1"] == "RuntimeError: no luck"
    assert ear.reasons["local/2"] == "exit status 2: not like this"
    assert ear.reasons["local/3"].startswith("exit status 2: see ")
    assert ear.reasons["fedavg/0"] == ear.reasons["fedavg/1"] == ""
    assert "Traceback" in (tmp_path / "all" / "local" / "1" / "run.log").read_text()
    said = (tmp_path / "all" / "fedavg" / "1" / "run.log").read_text()
    assert f"threads: {'1' if workers > 1 else '3'}" in said
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.usefixtures("fake_train")
def test_a_worker_that_dies_idle_is_replaced(tmp_path: Path) -> None:
    class Killer(Ear):
        def on_end(self, job: Job, reason: str) -> None:
            super().on_end(job, reason)
            for worker in children() - before:
                os.kill(int(worker), signal.SIGKILL)
                while ") Z" not in Path(f"/proc/{worker}/stat").read_text():  # a zombie
                    time.sleep(0.01)

    before = children()
    ear = Killer()
    perform_all(jobs(tmp_path, "fedavg/0", "fedavg/1", "fedavg/2"), 1, ear)
    assert ear.reasons == {"fedavg/0": "", "fedavg/1": "", "fedavg/2": ""}


@pytest.mark.usefixtures("fake_train")
def test_a_worker_that_cannot_be_sent_to_fails_its_job_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = pool._start, iter(range(9))

    def start(*, one_thread: bool) -> pool.TrainingProcess:
        worker = real(one_thread=one_thread)
        if next(calls) == 0:
            worker.process.kill()
            worker.process.join()
        return worker

    monkeypatch.setattr(pool, "_start", start)
    ear = Ear()
    perform_all(jobs(tmp_path, "fedavg/0", "fedavg/1"), 1, ear)
    assert "its process was killed by signal 9" in ear.reasons["fedavg/0"]
    assert ear.reasons["fedavg/1"] == ""


@pytest.mark.usefixtures("fake_train")
def test_a_listener_that_raises_leaves_no_process(tmp_path: Path) -> None:
    class Angry(Ear):
        def on_end(self, job: Job, reason: str) -> None:
            raise KeyboardInterrupt

    before = children()
    with pytest.raises(KeyboardInterrupt):
        perform_all(jobs(tmp_path, "fedavg/0", "fedavg/1", "fedavg/2"), 2, Angry())
    assert children() == before
