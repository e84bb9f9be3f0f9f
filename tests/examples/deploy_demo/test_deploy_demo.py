"""The deployment demo: its pieces, and once the whole of it in processes of their own."""

import csv
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from examples.deploy_demo import kits
from examples.deploy_demo.__main__ import main
from examples.deploy_demo.outcome import is_a_hospitals, run_folders, summary
from examples.deploy_demo.places import PROJECT, REPOSITORY, Places, environment
from examples.deploy_demo.processes import MARK, Party, Processes
from examples.deploy_demo.project import Project, free_ports, hand_out, provision
from lightning_fl.errors import ConfigError
from lightning_fl.hospital.file import HospitalFile
from lightning_fl.hospital.prepare_kit import prepare
from lightning_fl.predict.finished_run import FinishedRun
from tests.waiting import PATIENCE, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]
AWAKE = [
    sys.executable,
    "-c",
    # what a shell starts in the background ignores SIGINT, and so do the processes that it starts
    "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "print('awake', flush=True); time.sleep(3600)",
]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('deaf', flush=True); time.sleep(3600)",
]
PARENT = [
    sys.executable,
    "-c",
    f"import subprocess; print(subprocess.Popen({SLEEP!r}, start_new_session=True).pid)",
]
"""Starts a process in a session of its own and ends before it."""


def party(folder: Path, name: str = "A") -> Party:
    return Party(name, folder, {"PATH": os.environ["PATH"]}, folder / f"{name}.log")


def wait_for(log: Path) -> str:
    """Return the first line that a process writes into its log."""
    wait_until(lambda: log.is_file() and "\n" in log.read_text())
    return log.read_text().splitlines()[0]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as kept:
        yield kept


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("localhost", port))


def test_project_file_is_that_of_the_demo_but_for_the_ports() -> None:
    of_the_demo = Project.read(PROJECT)
    project = of_the_demo.with_ports(1234, 1235)
    assert project.sites == ["A", "B", "C"]
    assert project.user == "lead@example.org"
    assert project.server["name"] == "localhost"
    assert (project.server["fed_learn_port"], project.server["admin_port"]) == (1234, 1235)
    assert project.with_ports(8002, 8003) == of_the_demo


def test_processes_are_ended_with_those_they_started_even_after_their_parent(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start(party(tmp_path, "A"), SLEEP)
    assert processes.run(party(tmp_path, "B"), PARENT, limit=PATIENCE) == 0
    orphan = int(wait_for(tmp_path / "B.log"))
    assert orphan in {process.pid for process in processes.family()}
    assert len(processes.family()) == 2
    processes.stop()
    assert processes.family() == []
    wait_until(lambda: not psutil.pid_exists(orphan))


def test_what_does_not_listen_is_killed(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.deploy_demo.processes.END", 0.5)
    processes.start(party(tmp_path), STUBBORN)
    wait_for(tmp_path / "A.log")
    processes.stop()
    assert processes.family() == []


def test_processes_of_others_are_left_alone(processes: Processes, tmp_path: Path) -> None:
    with Processes() as others:
        others.start(party(tmp_path), SLEEP)
        processes.stop()
        assert len(others.family()) == 1


def test_a_run_that_takes_too_long_is_interrupted(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, tens = tmp_path / "A.log", itertools.count(10, step=10)

    def monotonic() -> float:
        """Stand still until the process is awake: an interrupt before would leave no trace."""
        return next(tens) if log.is_file() and "awake" in log.read_text() else 0

    clock = SimpleNamespace(monotonic=monotonic)
    monkeypatch.setattr("examples.deploy_demo.processes.time", clock)
    monkeypatch.setattr("examples.deploy_demo.processes.SAVE", PATIENCE)
    with pytest.raises(ConfigError, match="A has not ended in 1 seconds"):
        processes.run(party(tmp_path), AWAKE, limit=1)
    assert "KeyboardInterrupt" in log.read_text()
    assert processes.family() == []


def test_a_run_ends_when_the_process_of_another_has_ended(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start(party(tmp_path, "A"), [sys.executable, "-c", "exit('no kit')"])
    with pytest.raises(ConfigError, match=r"(?s)process of A ended with status 1.*no kit"):
        processes.run(party(tmp_path, "B"), SLEEP, limit=PATIENCE)


def test_environment_has_nothing_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    values = environment(tmp_path, threads=1)
    assert values["HOME"] == str(tmp_path)
    assert "WANDB_API_KEY" not in values
    assert values["PYTHONPATH"] == str(REPOSITORY)


def test_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert main(["--output", str(tmp_path)]) == 2
    assert f"{tmp_path} is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("run/models/global.safetensors", False),
        ("run/models/A.safetensors", True),
        ("run/models/A.global.safetensors", True),
        ("run/checkpoints/round-00001.safetensors", False),
        ("server/transfer/A-001_01.PNG", True),
    ],
)
def test_what_belongs_to_a_hospital_is_known(file: str, whose: bool) -> None:
    assert is_a_hospitals(Path(file)) == whose


def test_kits_are_made_handed_out_and_prepared(processes: Processes, tmp_path: Path) -> None:
    pytest.importorskip("nvflare")
    who = Party("provisioner", tmp_path, environment(tmp_path, 1), tmp_path / "provision.log")
    made = provision(Project.read(PROJECT), who, processes)
    assert set(made) == {"localhost", "A", "B", "C", "lead@example.org"}
    place = tmp_path / "A"
    hand_out(made["A"], place / "kit")
    assert not made["A"].exists()
    (place / "data").mkdir()
    fingerprint = kits.settle(place, place / "data")
    kits.pin(place, {"A": fingerprint})
    mine = HospitalFile.read(place / "kit" / "local" / "lightning_fl.yaml")
    assert mine.settings["data"]["init_args"]["root"] == str(place / "data")
    assert mine.pins == {"A": fingerprint}
    assert mine.terms.verified
    assert mine.allows("lightning_fl.aggregation.CyclicCKKS")
    assert not mine.allows("lightning_fl.aggregation.Plain")


def test_a_prepared_hospital_builds_only_what_a_run_needs_and_sends_no_log(
    processes: Processes, tmp_path: Path
) -> None:
    pytest.importorskip("nvflare")
    who = Party("provisioner", tmp_path, environment(tmp_path, 1), tmp_path / "provision.log")
    kit = provision(Project.read(PROJECT), who, processes)["B"]
    prepare(kit)
    values = json.loads((kit / "local" / "resources.json").read_text())
    assert values["class_list_enforcement_mode"] == "enforce"
    assert values["class_allow_list"] == [
        "lightning_fl.engines.nvflare.job.SiteSide",
        "nvflare.collab.runtime.executor.CollabExecutor",
    ]
    assert values["allow_log_streaming"] is False


def test_a_failed_provisioning_tells_the_end_of_its_log(
    processes: Processes, tmp_path: Path
) -> None:
    pytest.importorskip("nvflare")
    who = Party("provisioner", tmp_path, environment(tmp_path, 1), tmp_path / "provision.log")
    project = Project.read(PROJECT)
    project.server["name"] = "not a host name"
    with pytest.raises(ConfigError, match=r"(?s)`nvflare provision` ended with.*not a host name"):
        provision(project, who, processes)


def of_the_demo(mark: str) -> list[int]:
    """Processes that have a text in their command line."""
    processes = psutil.process_iter(["cmdline"])
    return [each.pid for each in processes if mark in " ".join(each.info["cmdline"] or ())]


def demo(folder: Path, *settings: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "examples.deploy_demo", "--output", str(folder)]
    return subprocess.Popen(
        [*command, *settings],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_parties_find_their_files_from_wherever_they_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Places(Path("runs/demo")).kit("A") == tmp_path.resolve() / "runs/demo/hospitals/A/kit"


@pytest.mark.slow
def test_the_demo_runs_and_everybody_has_what_is_theirs(tmp_path: Path) -> None:
    places = Places(tmp_path / "demo")
    run = demo(places.folder, "--rounds", "2", "--trainer.local_steps", "4")
    printed, _ = run.communicate(timeout=1200)
    assert run.returncode == 0, printed
    assert of_the_demo(str(places.folder)) == []

    assert (places.run / "report.html").is_file()
    results = json.loads((places.run / "results.json").read_text())
    assert list(results["sites"]) == ["A", "B", "C"]
    for models in results["sites"].values():
        assert "dice" in models["global"]["test"]
        assert "dice" in models["personal"]["test"]
    everything = [file for file in places.coordinator.rglob("*") if file.is_file()]
    assert not [file for file in everything if is_a_hospitals(file)]
    assert "Coordinator: the shared model" in printed

    for site in "ABC":
        (folder,) = run_folders(places, site)
        assert FinishedRun(folder).sites == (site,)
        with (folder / "messages.csv").open(newline="") as table:
            operations = {row["operation"] for row in csv.DictReader(table)}
        assert {"describe", "train", "ring_pass", "personalise"} <= operations
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        assert settings["data"]["init_args"]["root"] == str(places.data(site))
        assert [path.name for path in places.data(site).iterdir() if path.is_dir()] == [site]
        assert len(settings["aggregator"]["init_args"]["pins"]) == 3
    assert summary(places, ["A", "B", "C"]) in printed


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path, ending: int) -> None:
    run = demo(tmp_path / "demo")
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("train.py"):
            break
    assert len(of_the_demo(str(tmp_path))) > 4
    run.send_signal(ending)
    assert run.wait(PATIENCE) == (130 if ending == signal.SIGINT else 128 + ending)
    run.stdout.close()
    assert of_the_demo(str(tmp_path)) == []
    assert MARK not in os.environ
