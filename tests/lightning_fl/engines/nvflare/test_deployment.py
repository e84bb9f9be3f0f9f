"""Jobs at hospitals, with a session that plays NVFlare's server."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_fl.engines.nvflare import deployment
from lightning_fl.engines.nvflare.deployment import Deployment
from lightning_fl.errors import ConfigError


class Session:
    """A server with some connected sites."""

    def __init__(self, connected: set[str]) -> None:
        self.connected = connected
        self.status: dict[str, str] = {}
        self.aborted: list[str] = []
        self.broken = False

    def get_system_info(self) -> Any:
        if self.broken:
            raise OSError("no connection")
        return SimpleNamespace(client_info=[SimpleNamespace(name=n) for n in self.connected])

    def submit_job(self, folder: str) -> str:
        job = f"job{len(self.status)}"
        self.status[job] = "RUNNING"
        return job

    def get_job_status(self, job: str) -> str:
        return self.status[job]

    def abort_job(self, job: str) -> None:
        self.aborted.append(job)

    def close(self) -> None:
        pass


@pytest.fixture
def session() -> Session:
    return Session({"A", "B"})


@pytest.fixture
def jobs(tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setattr(deployment, "POLL", 0.01)
    monkeypatch.setattr(deployment, "END", 0.05)
    monkeypatch.setattr(deployment, "new_secure_session", lambda *args, **more: session)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "fed_admin.json").touch()
    return Deployment(tmp_path, wait=0.2)


def test_a_site_that_is_not_connected_is_named(jobs: Deployment) -> None:
    with pytest.raises(ConfigError, match=r"1 of 3 sites have not connected .*: C\."):
        jobs.start(Path("/post"), ["A", "B", "C"])


def test_a_job_that_ends_before_it_begins_is_told_with_its_site(
    jobs: Deployment, session: Session
) -> None:
    jobs.start(Path("/post"), ["A", "B"])
    jobs.check()
    session.status["job1"] = "FINISHED:ABNORMAL"
    jobs._looked = 0.0
    with pytest.raises(ConfigError, match="of site 'B' ended as FINISHED:ABNORMAL"):
        jobs.check()


def test_a_site_comes_back_while_another_stays_lost(jobs: Deployment, session: Session) -> None:
    jobs.start(Path("/post"), ["A", "B"])
    session.status |= {"job0": "FINISHED:ABNORMAL", "job1": "FINISHED:ABNORMAL"}
    session.connected = {"A"}
    assert jobs.returning(["A", "B"]) == ("A",)
    jobs.stop(["A"])
    jobs.start(Path("/post"), ["A"])
    jobs._looked = 0.0
    jobs.check()  # B's job is over, and that is known


def test_jobs_that_do_not_end_by_themselves_are_aborted(jobs: Deployment, session: Session) -> None:
    jobs.start(Path("/post"), ["A", "B"])
    session.status["job0"] = "FINISHED:COMPLETED"
    jobs.stop(["A", "B"])
    assert session.aborted == ["job1"]


def test_a_server_that_is_gone_is_an_error_with_a_name_and_has_nobody(
    jobs: Deployment, session: Session
) -> None:
    jobs.start(Path("/post"), ["A"])
    session.broken = True
    assert jobs.returning(["A"]) == ()
    with pytest.raises(ConfigError, match="server does not answer"):
        jobs.start(Path("/post"), ["A"])


def test_a_server_that_does_not_let_in_says_so(
    jobs: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise RuntimeError("CERTIFICATE_VERIFY_FAILED")

    monkeypatch.setattr(deployment, "new_secure_session", refuse)
    with pytest.raises(ConfigError, match="take the kit of this federation"):
        jobs.start(Path("/post"), ["A"])
