"""Whole runs on Ray against the same runs on the Local engine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import train
from lightning_fl.engines.ray.transport import RayTransport
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.site.site import Site
from lightning_fl.wire.messages import Message
from lightning_fl.wire.monitor import Monitor
from tests.folders import ROOT
from tests.toy import small_quickstart
from tests.waiting import PATIENCE, wait_until

OVERRIDES = ROOT / "configs" / "overrides"


def tiny(tmp_path: Path, name: str, *arguments: str) -> list[str]:
    """The smallest federation of chest phantoms, with the secure ring, in a folder of its own."""
    return small_quickstart(tmp_path / name, tmp_path / "cache", *arguments)


def outcome(folder: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Everything that no clock decides, and the weights of the mean."""
    results = json.loads((folder / "results.json").read_text())
    del results["costs"]["seconds"]
    weights = safetensors.torch.load_file(folder / "models" / "global.safetensors")
    return results, {name: value.tolist() for name, value in weights.items()}


def test_a_run_with_the_secure_ring_gives_the_numbers_of_the_local_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engines = {"local": ["--engine", "local"], "ray": ["--config", str(OVERRIDES / "ray.yaml")]}
    for name, engine in engines.items():
        assert train.main([*tiny(tmp_path, name), *engine]) == 0
    results, weights = outcome(tmp_path / "ray")
    assert (results, weights) == outcome(tmp_path / "local")
    assert results["dropped"] == []
    assert results["aggregator"]["name"] == "CyclicCKKS"
    for kept in ("models", "checkpoints/sites/A"):
        names = [{p.name for p in (tmp_path / e / kept).iterdir()} for e in ("local", "ray")]
        assert names[0] == names[1]
    assert not list((tmp_path / "ray").glob(".ray-*"))


class Killer(Monitor):
    """Ends the process of site B when round 2 is about to train."""

    transport: RayTransport | None = None
    lost: str | None = None
    killed = False

    def on_operation(self, *, operation: str, round_: int | None = None, **more: object) -> None:
        if (round_, operation) == (2, "train") and self.transport is not None:
            [home] = [worker for worker in self.transport.workers if "B" in worker.names]
            os.kill(home.pid, signal.SIGKILL)
            self.killed = True

    def on_site_done(self, *, site: str, operation: str, seconds: float) -> None:
        if site == "B" and self.killed and self.lost is None:
            self.lost = operation


LOCAL_BN = ["--algorithm", "lightning_fl.algorithms.FedAvg", "--algorithm.batch_norm", "local"]


@pytest.mark.slow
def test_a_round_goes_on_without_a_killed_worker_and_its_site_comes_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer()
    make = RayTransport.__init__

    def remember(self: RayTransport, *arguments: Any) -> None:
        make(self, *arguments)
        killer.transport = self

    def fails_once(self: Site, op: str, payload: bytes) -> bytes:
        if (self.name, op, Message.decode(payload).round) == ("B", "train", 2):
            raise RuntimeError("as if its process were gone")
        return handle(self, op, payload)

    handle = Site.handle
    monkeypatch.setattr(RayTransport, "__init__", remember)
    engines = {"local": [], "ray": ["--engine.workers", "4", "--engine.cpus", "0.1"]}
    for engine, options in engines.items():
        four = ["--data.init_args.sites", "4"]  # three are left in the ring without B
        more = ["--engine", engine, *options, "--rounds", "3", *four, *LOCAL_BN]
        settings = read_settings(tiny(tmp_path, engine, *more))
        settings.save()
        with monkeypatch.context() as patch:
            if engine == "local":
                patch.setattr(Site, "handle", fails_once)
            monitor = killer if engine == "ray" else Monitor()
            run = Run(
                settings.experiment,
                settings.folder,
                monitor,
                text=settings.text,
            )
            run.start()
    assert killer.lost == "train"
    (ray, weights), (local, expected) = (outcome(tmp_path / name) for name in ("ray", "local"))
    [dropped], [as_if] = ray.pop("dropped"), local.pop("dropped")
    assert (dropped["round"], dropped["site"], dropped["operation"]) == (2, "B", "train")
    assert (as_if["round"], as_if["site"], as_if["operation"]) == (2, "B", "train")
    assert "is gone" in dropped["reason"]
    for results in (ray, local):
        del results["costs"]  # a lost site has answered one message fewer
    assert (ray, weights) == (local, expected)
    assert (tmp_path / "ray/checkpoints/sites/B/private-00003.safetensors").exists()


def alive() -> set[int]:
    """Processes of Ray clusters, whoever's."""
    processes = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if any(word in command for word in (b"raylet", b"gcs_server", b"ray::")):
            processes.add(int(entry.name))
    return processes


@pytest.mark.slow
def test_ctrl_c_ends_a_run_from_another_folder_with_130_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    before = alive()
    work = tmp_path / "elsewhere"
    work.mkdir()
    command = [sys.executable, str(ROOT / "train.py"), *tiny(tmp_path, "run", "--rounds", "99")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.Popen(
        [*command, "--engine", "ray"],
        cwd=work,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line)
        if line.startswith("round 1/"):
            break
    os.killpg(run.pid, signal.SIGINT)
    lines.append(run.stdout.read())
    assert run.wait(PATIENCE) == 130, "".join(lines)
    assert "interrupted; go on with --resume" in lines[-1]
    wait_until(lambda: not alive() - before)
