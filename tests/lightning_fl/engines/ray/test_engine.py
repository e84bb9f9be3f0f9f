"""Sites in real processes of Ray: what they answer, how they fail, and who sees which folder."""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import lightning_fl
from lightning_fl.engines import Ray
from lightning_fl.engines.ray.cluster import cluster, resources, worker_for
from lightning_fl.engines.ray.host import Surroundings, marked, versions
from lightning_fl.engines.ray.transport import RayTransport
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.wire.transport import Reply, Transport
from tests.lightning_fl.engines.sites import MakeObedient
from tests.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with cluster(None):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sites")


@pytest.fixture(scope="module")
def transport(ray: None, folder: Path) -> Iterator[RayTransport]:
    """A and C in one process, B in another."""
    around = Surroundings(str(folder), threads=1)
    make = MakeObedient(str(folder))
    workers = [worker_for(names, make, around, 0.1, 0) for names in (["A", "C"], ["B"])]
    yield RayTransport(workers)
    for worker in workers:
        worker.give_up()


def ask(
    transport: Transport, op: str, payload: bytes = b"", sites: str = "ABC", **settings: Any
) -> dict[str, Reply | SiteError]:
    settings = {"timeout": PATIENCE} | settings
    return transport.map(op, dict.fromkeys(sites, payload), **settings)


def answer(reply: Reply | SiteError) -> str:
    assert isinstance(reply, Reply), reply
    return reply.payload.decode()


def pids(transport: Transport) -> dict[str, int]:
    return {s: int(answer(r).split()[0]) for s, r in ask(transport, "where").items()}


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_bytes_come_back_as_they_went(transport: RayTransport, size: int) -> None:
    payload = os.urandom(size)
    for reply in ask(transport, "echo", payload).values():
        assert isinstance(reply, Reply)
        assert reply.payload == payload
        assert reply.seconds > 0


def test_sites_share_a_process_where_they_are_more_and_find_the_coordinators_surroundings(
    transport: RayTransport, folder: Path
) -> None:
    found = pids(transport)
    assert found["A"] == found["C"] != found["B"]
    assert os.getpid() not in found.values()
    for reply in ask(transport, "where").values():
        assert answer(reply).split()[1:] == ["1", str(folder), lightning_fl.__file__]


@pytest.mark.parametrize(
    ("op", "kind", "detail"),
    [
        ("fail", "failed", "OSError: no disk"),
        ("diverge", "non_finite", "NonFiniteError: weights are NaN"),
    ],
)
def test_what_a_site_raises_is_its_answer(
    transport: RayTransport, op: str, kind: str, detail: str
) -> None:
    before = pids(transport)
    for site, error in ask(transport, op).items():
        assert isinstance(error, SiteError)
        assert (error.site, error.op, error.kind, error.detail) == (site, op, kind, detail)
    assert pids(transport) == before


def ended(pid: int) -> bool:
    """Whether there is no such process any more."""
    return not Path(f"/proc/{pid}").exists()


def test_a_killed_worker_is_noticed_at_once_and_its_sites_come_back_with_their_state(
    transport: RayTransport,
) -> None:
    ask(transport, "count")
    before = {s: [int(n) for n in answer(r).split()] for s, r in ask(transport, "count").items()}
    killed = pids(transport)["A"]

    def kill(site: str, _: object) -> None:
        if site == "B":  # has answered, while A works
            os.kill(killed, signal.SIGKILL)

    payloads = {"A": b"600", "B": b"0.5"}
    replies = transport.map("sleep", payloads, timeout=PATIENCE, on_reply=kill)
    lost = replies["A"]
    assert isinstance(lost, SiteError)
    assert lost.kind == "lost"  # "timeout" would say that nobody noticed
    assert f"its process {killed} is gone" in lost.detail
    assert isinstance(replies["B"], Reply)
    after = {s: [int(n) for n in answer(r).split()] for s, r in ask(transport, "count").items()}
    assert pids(transport)["A"] != killed
    for site in "AC":  # both were in that process
        assert after[site] == [before[site][0] + 1, 1]
    assert after["B"][0] == before["B"][0] + 1
    assert after["B"][1] > before["B"][1]


def test_a_hung_worker_is_ended_and_replaced(transport: RayTransport) -> None:
    before = pids(transport)["B"]
    [error] = ask(transport, "sleep", b"600", sites="B", timeout=0.5).values()
    assert isinstance(error, SiteError)
    assert error.kind == "timeout"
    assert pids(transport)["B"] != before
    wait_until(lambda: ended(before))


def test_a_worker_that_ends_itself_is_lost(transport: RayTransport) -> None:
    """The last to use these workers, so that no process takes this one's place."""
    [error] = ask(transport, "die", sites="B").values()
    assert isinstance(error, SiteError)
    assert error.kind == "lost"
    assert "\n" not in error.detail


def engine(**settings: Any) -> Ray:
    return Ray(**({"cpus": 0.1, "workers": 1, "timeout": PATIENCE} | settings))


def test_the_engine_ends_what_it_started_and_leaves_a_cluster_that_others_use(
    ray: None, tmp_path: Path
) -> None:
    names = ["A", "homeless"]

    def coordinate(transport: Transport) -> tuple[int, Reply | SiteError]:
        payloads = dict.fromkeys(names, b"")
        replies = transport.map("where", payloads, timeout=PATIENCE)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".ray-")]
        return int(answer(replies["A"]).split()[0]), replies["homeless"]

    pid, failed = engine().run(coordinate, MakeObedient(str(tmp_path)), names)
    assert isinstance(failed, SiteError)
    assert (failed.kind, failed.detail) == ("failed", "FileNotFoundError: no data folder")
    assert not list(tmp_path.iterdir())
    assert resources()
    wait_until(lambda: ended(pid))


def test_a_worker_of_another_version_is_refused_with_both(ray: None, tmp_path: Path) -> None:
    around = Surroundings(str(tmp_path), 1, versions=versions() | {"torch": "1.13"})
    worker = worker_for(["A"], MakeObedient(str(tmp_path)), around, 0.1, 0)
    [error] = ask(RayTransport([worker]), "where", sites="A").values()
    assert isinstance(error, SiteError)
    assert error.kind == "lost"
    assert f"has torch {torch.__version__}, but the coordinator 1.13" in error.detail
    assert not worker.there


def test_surroundings_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with marked(str(tmp_path / "run")) as marker:
        here = Surroundings(str(tmp_path), 1, marker=marker)
        assert here.enter() == []
        other = Surroundings("/nowhere", 1, marker=f"{marker}-of-another-run")
        [directory, unseen] = other.enter()
    assert "has no folder /nowhere" in directory
    assert f"does not see the run's folder {tmp_path / 'run'}; choose one that all" in unseen
    [gone] = here.enter()
    assert "does not see the run's folder" in gone
    assert Surroundings(str(tmp_path), 1).enter() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "`workers` to be at least 1, or null, but got 0"),
        ({"threads": 0}, "`threads` to be at least 1, or null, but got 0"),
        ({"cpus": 0}, "`cpus` to be positive, but got 0"),
        ({"gpus": -0.5}, "`gpus` to be between 0 and 1"),
        ({"gpus": 2}, "`gpus` to be between 0 and 1, since a site trains on one device"),
        ({"timeout": 0}, "`timeout` to be positive, but got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ray(**settings)


@pytest.mark.parametrize(
    ("settings", "sites", "machines", "count"),
    [
        ({}, 3, [{"CPU": 8}], 3),
        ({}, 9, [{"CPU": 8}], 8),
        ({"workers": 2}, 9, [{"CPU": 8}], 2),
        ({"workers": 5}, 3, [{"CPU": 8}], 3),  # more would have nothing to do
        ({"cpus": 4}, 9, [{"CPU": 6}, {"CPU": 6}], 2),  # none spans two machines
        ({"cpus": 0.1}, 99, [{"CPU": 2}], 20),
        ({"gpus": 0.5}, 9, [{"CPU": 16, "GPU": 2}, {"CPU": 16}], 4),
        ({"gpus": 1 / 3}, 9, [{"CPU": 16, "GPU": 1}], 3),
    ],
)
def test_there_are_as_many_workers_as_fit(
    settings: dict[str, Any], sites: int, machines: Sequence[dict[str, float]], count: int
) -> None:
    assert Ray(**settings).count(sites, machines) == count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, "3 `engine.workers` of 1 `cpus` and 0 `gpus` do not fit into 2 CPUs"),
        ({"cpus": 4}, "1 `engine.workers` of 4 `cpus` .* where 0 do. Set fewer workers, or"),
        ({"gpus": 1}, "2 CPUs, 0 GPUs"),
    ],
)
def test_workers_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ray(**settings).count(4, [{"CPU": 2.0}])


def test_a_missing_package_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lightning_fl.engines.ray.engine.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "lightning-fl\[ray\]"'):
        Ray()


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://host:1", "host:port", "http://host:1"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with (
        pytest.raises(ConfigError, match=f"HOST:PORT, auto or null, but got '{address}'"),
        cluster(address),
    ):
        pass


def test_an_address_at_which_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match="nothing answers there"), cluster(address):
            pass
