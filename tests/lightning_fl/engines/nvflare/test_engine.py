"""The NVFlare engine: its settings, its job, and a simulation with the numbers of Local."""

import inspect
import json
import os
import signal
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

import psutil
import pytest

import train
from lightning_fl.engines import NVFlare
from lightning_fl.engines.nvflare.deployment import Deployment
from lightning_fl.engines.nvflare.job import Recipe, SiteSide
from lightning_fl.engines.nvflare.names import SERVER_CLASSES, SIMULATED_CLASSES, SITE_CLASSES
from lightning_fl.errors import ConfigError
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.wire.monitor import Monitor
from tests.folders import ROOT
from tests.toy import small_quickstart

ENGINE = "lightning_fl.engines.NVFlare"


def tiny(folder: Path, *more: str) -> list[str]:
    """Arguments of two rounds of three hospitals with the secure ring."""
    return small_quickstart(folder, folder.parent / "cache", "--rounds", "2", *more)


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def simulators() -> list[psutil.Process]:
    """Processes of simulations that this test process has started."""
    return [p for p in psutil.Process().children(recursive=True) if "nvflare" in _command(p)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kit": "here"}, "belong together"),
        ({"sites": ["A"]}, "belong together"),
        ({"start_timeout": 0}, "start_timeout"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NVFlare(**settings)


def test_a_kit_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"startup/fed_admin\.json"):
        Deployment(tmp_path, 1.0)


def test_without_the_extra_the_command_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-fl\[nvflare\]'"):
        NVFlare().run(lambda transport: None, lambda name: None, ["A"])  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("simulated", [True, False])
def test_the_job_holds_no_code_and_names_only_what_sides_allow(
    tmp_path: Path, simulated: bool
) -> None:
    Recipe("/post", {"A": "A", "B": "B"}, simulated=simulated).export(str(tmp_path))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    assert {p.suffix for p in files} == {".json"}
    ours = {*SERVER_CLASSES, *(SIMULATED_CLASSES if simulated else SITE_CLASSES)}
    named = {path for p in files for path in _paths(json.loads(p.read_text()))}
    assert {path for path in named if path.startswith("lightning_fl.")} <= ours
    assert ours <= named


def _paths(values: Any) -> set[str]:
    if isinstance(values, Mapping):
        own = {str(values["path"])} if "path" in values else set()
        return own.union(*(_paths(value) for value in values.values()))
    if isinstance(values, list):
        return set().union(*(_paths(value) for value in values))
    return set()


def test_nothing_that_a_job_says_makes_a_hospital_a_simulated_site() -> None:
    assert not inspect.signature(SiteSide).parameters
    simulated = set(SIMULATED_CLASSES) - set(SITE_CLASSES)
    assert len(simulated) == 1  # and prepare_kit allows SITE_CLASSES alone


def test_a_job_at_hospitals_is_sent_to_its_site_alone(tmp_path: Path) -> None:
    Recipe("/post", {"A": "A"}, simulated=False).export(str(tmp_path))
    meta = json.loads(next(tmp_path.rglob("meta.json")).read_text())
    deployed = {site for sites in meta["deploy_map"].values() for site in sites}
    assert deployed == {"A", "server"}


def test_a_simulation_has_the_numbers_of_local_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert train.main(tiny(tmp_path / "local")) == 0
    assert train.main(tiny(tmp_path / "nvflare", "--engine", ENGINE)) == 0
    local, nvflare = results(tmp_path / "local"), results(tmp_path / "nvflare")
    for key in ("sites", "mean", "worst", "best_round", "dropped"):
        assert nvflare[key] == local[key], key
    assert nvflare["costs"]["bytes"] == local["costs"]["bytes"]
    assert (tmp_path / "nvflare" / "models" / "A.safetensors").is_file()
    assert (tmp_path / "nvflare" / "report.html").is_file()
    assert simulators() == []


class Meddler(Monitor):
    """Does something to a site's process when a round has ended."""

    def __init__(self, round_: int, act: Callable[[int], None]) -> None:
        self.round = round_
        self.act = act
        self.processes: dict[str, int] = {}

    def on_round_end(self, *, round_: int, metric: str, scores: Mapping[str, float]) -> None:
        if round_ == self.round:
            self.act(next(p.pid for p in simulators() if _hosts(p, "site-2")))


def _hosts(process: psutil.Process, client: str) -> bool:
    command = _command(process)
    return "simulator_worker" in command and client in command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda pid: os.kill(pid, signal.SIGKILL), "its process is gone"),
        (lambda pid: os.kill(pid, signal.SIGSTOP), "no answer in 20 seconds"),
    ],
    ids=["killed", "hung"],
)
def test_a_lost_site_is_left_out_of_its_round_and_comes_back_with_its_private_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None], reason: str
) -> None:
    monkeypatch.chdir(ROOT)
    more = ("--engine", ENGINE, "--engine.timeout", "20", "--rounds", "3")
    two = ("--aggregator.allow_two_sites", "true")
    settings = read_settings(tiny(tmp_path / "run", *more, *two))
    settings.save()
    run = Run(
        settings.experiment,
        settings.folder,
        Meddler(1, act),
        text=settings.text,
    )
    found = run.start()
    assert [(d["round"], d["site"]) for d in found["dropped"]] == [(2, "B")]
    assert reason in found["dropped"][0]["reason"]
    assert found["rounds"] == 3
    # round 3 has B's update again: all three sites have a private state of that round
    sites = tmp_path / "run" / "checkpoints" / "sites"
    assert all((sites / s / "private-00003.safetensors").is_file() for s in "ABC")
    assert simulators() == []
