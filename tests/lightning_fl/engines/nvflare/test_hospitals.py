"""Hospitals in processes of their own behind certificates: what goes wrong, and what is said."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from examples.deploy_demo.demo import Demo
from examples.deploy_demo.places import Places
from examples.deploy_demo.processes import Processes
from examples.deploy_demo.project import hand_out, provision

pytestmark = pytest.mark.slow
QUICK = ("--rounds", "3", "--trainer.local_steps", "2", "--personalisation.candidates", "[]")
SOON = ("--engine.init_args.start_timeout", "60")
LIMIT = 400.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A server and three hospitals that wait for a run."""
    places = Places(tmp_path_factory.mktemp("hospitals"))
    with Processes() as processes:
        demo = Demo(places, processes, say=lambda text: None)
        places.coordinator.mkdir()
        places.provisioner.mkdir()
        demo.make_data()
        demo.hand_out_kits()
        demo.start()
        yield demo


def train(
    demo: Demo, *arguments: str, on_line: Callable[[str], None] | None = None
) -> tuple[int, str]:
    """Exit status and words of train.py."""
    party = demo.party("train.py")
    process = subprocess.Popen(
        demo.command(arguments),
        cwd=party.folder,
        env=party.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if on_line is not None:
                on_line(line)
        return process.wait(LIMIT), "".join(said)
    finally:
        process.kill()


def job_of(demo: Demo, site: str) -> psutil.Process:
    """The process in which a hospital hosts its site."""
    kit = str(demo.places.kit(site).resolve())
    for process in demo.processes.family():
        command = " ".join(process.cmdline())
        if "worker_process" in command and kit in command:
            return process
    raise AssertionError(f"{site} hosts nothing")


def test_a_killed_site_stops_a_ring_of_three_saved_and_comes_back_with_its_private_state(
    demo: Demo, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def kill(line: str) -> None:
        if line.startswith("round 1/"):
            job_of(demo, "A").kill()

    status, said = train(demo, *QUICK, "--output", str(run), on_line=kill)
    assert status == 1, said
    assert "goes on without A" in said
    assert "--resume" in said  # of two hospitals each would see the other's update
    party = demo.party("train.py")
    command = [*demo.command(())[:2], "--resume", str(run)]
    subprocess.run(command, cwd=party.folder, env=party.environment, check=True, timeout=LIMIT)
    found = json.loads((run / "results.json").read_text())
    assert found["rounds"] == 3
    assert list(found["sites"]) == ["A", "B", "C"]
    (kept,) = demo.places.kit("A").glob("runs/*/checkpoints/sites/A/private-00003.safetensors")
    assert kept.is_file()


def test_a_data_folder_that_is_missing_is_named_with_its_hospital(
    demo: Demo, tmp_path: Path
) -> None:
    data = demo.places.data("B")
    away = data.rename(data.with_name("away"))
    try:
        status, said = train(demo, *QUICK, "--output", str(tmp_path / "run"))
    finally:
        away.rename(data)
    assert status == 2, said
    assert "at site 'B'" in said
    assert "ConfigError, number 1 in the errors.log of this hospital" in said
    assert "no data folder" not in said  # a path of a hospital stays there


def test_a_hospital_that_is_not_connected_is_named(demo: Demo, tmp_path: Path) -> None:
    more = ("--engine.init_args.sites", "[A, B, C, D]", *SOON)
    status, said = train(demo, *QUICK, *more, "--output", str(tmp_path / "run"))
    assert status == 2, said
    assert "1 of 4 sites have not connected" in said
    assert ": D." in said


def test_a_kit_of_another_federation_is_not_let_in(demo: Demo, tmp_path: Path) -> None:
    other = Demo(Places(tmp_path), demo.processes, lambda text: None, project=demo.project)
    other.places.provisioner.mkdir()
    kits = provision(other.project, other.party("nvflare provision"), demo.processes)
    kit = tmp_path / demo.project.user
    hand_out(kits[demo.project.user], kit)
    more = ("--engine.init_args.kit", str(kit), *SOON)
    status, said = train(demo, *QUICK, *more, "--output", str(tmp_path / "run"))
    assert status == 2, said
    assert "does not let" in said


def test_what_a_hospital_does_not_allow_is_refused_with_its_name(
    demo: Demo, tmp_path: Path
) -> None:
    plain = ("--aggregator", "lightning_fl.aggregation.Plain")
    status, said = train(demo, *QUICK, *plain, "--output", str(tmp_path / "run"))
    assert status == 2, said
    assert "names lightning_fl.aggregation.Plain" in said
