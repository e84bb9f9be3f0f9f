"""Runs from Python: started, opened again and gone on with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import lightning_fl
from lightning_fl import ConfigError, FinishedRun
from lightning_fl.algorithms import LateLocal
from lightning_fl.audit import Audit
from lightning_fl.run.description import describe
from lightning_fl.training.fitting import TrainerOptions
from tests.toy import SITES, Listener, ToyModule, toy_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return lightning_fl.fit(toy_experiment(), tmp_path_factory.mktemp("runs") / "toy")


def test_a_run_from_python_gives_its_results_and_models(run: FinishedRun) -> None:
    assert run.sites == tuple(SITES)
    assert run.results["rounds"] == 2
    assert not run.model("A").training
    files = {"A": run.model("A"), "global": run.model(), "B": run.model("B")}
    for name, model in files.items():
        stored = lightning_fl.load(run.folder, ToyModule()).model(name)
        x = torch.randn(5, 3)
        torch.testing.assert_close(model.get_submodule("net")(x), stored.get_submodule("net")(x))
    assert not torch.equal(files["A"].net[0].weight, files["B"].net[0].weight)  # type: ignore[index,union-attr]


def test_a_folder_of_python_needs_the_task_for_its_models_alone(run: FinishedRun) -> None:
    opened = lightning_fl.load(run.folder)
    assert opened.results == run.results
    with pytest.raises(ConfigError, match=r"started from Python.*load\(folder, task\)"):
        opened.model("A")
    with pytest.raises(ConfigError, match=r"started from Python.*by train\.py"):
        opened.fresh_task(1)


def test_a_folder_of_anything_else_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a run"):
        lightning_fl.load(tmp_path)


def test_what_a_run_began_with_is_written_down(run: FinishedRun) -> None:
    settings = yaml.safe_load((run.folder / "settings.yaml").read_text())
    assert settings["trainer"]["local_steps"] == 3
    assert settings["algorithm"]["class_path"] == "lightning_fl.algorithms.fedavg.FedAvg"
    [candidate] = settings["personalisation"]["candidates"]
    assert candidate["init_args"]["steps"] == [2, 4]
    assert settings["task"] == {"class_path": "tests.toy.ToyModule"}
    assert "settings.yaml" in (run.folder / "report.html").read_text()


def test_values_that_yaml_does_not_know_are_written_as_plain_ones(tmp_path: Path) -> None:
    output: Any = tmp_path
    experiment = toy_experiment(seed=np.int64(3), output=output, trainer=TrainerOptions(2))
    settings = yaml.safe_load(yaml.safe_dump(describe(experiment)))
    assert settings["seed"] == 3
    assert settings["output"] == str(tmp_path)
    assert settings["trainer"]["local_epochs"] is None


def test_a_run_goes_on_only_when_asked_and_with_its_own_settings(tmp_path: Path) -> None:
    late = LateLocal(personal=["3"])
    short = toy_experiment(algorithm=late, rounds=4)
    with pytest.raises(ConfigError, match="no run to resume"):
        lightning_fl.fit(short, tmp_path, resume=True)
    lightning_fl.fit(short, tmp_path)
    with pytest.raises(ConfigError, match="already holds a run"):
        lightning_fl.fit(short, tmp_path)
    with pytest.raises(ConfigError, match=r"\['seed'\] differ"):
        lightning_fl.fit(replace(short, seed=1), tmp_path, resume=True)
    for rounds in (5, 6):
        heard = Listener()
        longer = replace(short, rounds=rounds)
        resumed = lightning_fl.fit(longer, tmp_path, resume=True, monitor=heard)
        assert heard.rounds == [rounds]
        assert resumed.results["rounds"] == rounds
    settings = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert settings["algorithm"]["init_args"]["shared_rounds"] == 2


def test_what_python_cannot_do_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`directions`"):
        lightning_fl.fit(toy_experiment(directions=["axial", "coronal"]), tmp_path)
    shadows = Audit(trials=0, distinguishing=0, shadows=4)
    with pytest.raises(ConfigError, match="`shadows` is 4"):
        lightning_fl.fit(toy_experiment(audit=shadows), tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"train\.py --resume"):
        lightning_fl.fit(toy_experiment(), tmp_path)


def test_an_audit_of_the_finished_models_needs_no_config(tmp_path: Path) -> None:
    audit = Audit(trials=0, distinguishing=0)
    run = lightning_fl.fit(toy_experiment(audit=audit, rounds=1), tmp_path)
    assert (run.folder / "audit.json").is_file()
