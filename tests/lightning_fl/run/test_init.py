"""Runs that begin with the weights of another one."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lightning_fl.algorithms import FedAvg
from lightning_fl.engines import Local
from lightning_fl.errors import ConfigError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run.blueprint import Blueprint
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.run_files import INIT
from lightning_fl.training.first_weights import weights_file, with_weights
from tests.folders import CONFIGS
from tests.toy import ToyHospitals, ToyModule, toy_experiment, toy_run


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("before")
    toy_run(folder, toy_experiment(rounds=1)).start()
    return folder


def model(folder: Path, name: str) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "models" / f"{name}.safetensors")


def first_weights(run: Run) -> dict[str, Tensor]:
    return run.blueprint.template.state_dict()


@pytest.mark.parametrize("name", ["global", "A"])
def test_a_run_begins_with_the_shared_or_a_personal_model(
    before: Path, tmp_path: Path, name: str
) -> None:
    init = before if name == "global" else before / "models" / "A.safetensors"
    run = toy_run(tmp_path, toy_experiment(init=str(init)))
    expected = model(before, name)
    assert _equal(first_weights(run), expected)
    assert torch.equal(run.state().weights, toy_vector(expected))


def toy_vector(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([state[name].flatten() for name in ToyModule().state_dict()])


def test_a_run_goes_on_with_its_own_copy_of_the_weights(before: Path, tmp_path: Path) -> None:
    """With layers of its own, a site that trains first after a resume begins with them, too."""
    source = tmp_path / "weights.safetensors"
    source.write_bytes((before / "models" / "global.safetensors").read_bytes())
    experiment = toy_experiment(init=str(source), algorithm=FedAvg(personal=["3"]), rounds=1)
    folder = tmp_path / "run"
    toy_run(folder, experiment).start()
    source.unlink()
    resumed = toy_run(folder, experiment)
    expected = model(before, "global")
    assert _equal(first_weights(resumed), expected)
    assert (folder / INIT).is_file()


def test_the_experiments_own_task_is_not_changed(before: Path, tmp_path: Path) -> None:
    experiment = toy_experiment(init=str(before))
    old = {name: value.clone() for name, value in experiment.task.state_dict().items()}
    assert not _equal(first_weights(toy_run(tmp_path, experiment)), old)
    assert _equal(experiment.task.state_dict(), old)


def test_weights_may_have_the_names_of_the_net_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = ToyModule()
    safetensors.torch.save_file(other.net.state_dict(), tmp_path / "net.safetensors")
    task = with_weights(ToyModule(), tmp_path / "net.safetensors")
    assert _equal(task.state_dict(), other.state_dict())


def test_another_net_is_refused_and_its_entries_are_named(before: Path) -> None:
    wide = toy_experiment(init=str(before), module=ToyModule(width=5))
    with pytest.raises(ConfigError, match=r"net\.0\.weight has shape \(4, 3\) instead of \(5, 3\)"):
        Blueprint(wide)
    normed = toy_experiment(init=str(before), module=ToyModule(batch_norm=True))
    with pytest.raises(ConfigError, match=r"5 entries differ \(net\.1\.weight is missing"):
        Blueprint(normed)


def test_what_is_no_weights_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*none\.safetensors"):
        weights_file(str(tmp_path / "none.safetensors"))
    with pytest.raises(ConfigError, match=r"models/global\.safetensors"):
        weights_file(str(tmp_path))  # a run that has not finished
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="takes a safetensors file"):
        with_weights(ToyModule(), tmp_path / "weights.pt")


class AtHospitals(Local):
    """An engine whose sites have the data."""

    sites = ("A", "B", "C")


def test_layers_that_stay_at_hospitals_cannot_begin_with_the_coordinators_file(
    before: Path,
) -> None:
    def blueprint(algorithm: FedAvg) -> Blueprint:
        experiment = toy_experiment(init=str(before), engine=AtHospitals(), algorithm=algorithm)
        return Blueprint(experiment, AtHospitals.sites)

    assert blueprint(FedAvg()).layout.length
    with pytest.raises(ConfigError, match=r"such as net\.3\.weight"):
        blueprint(FedAvg(personal=["3"]))


def test_a_hospital_joins_by_a_new_run_and_not_by_resuming(before: Path, tmp_path: Path) -> None:
    toy_run(tmp_path, toy_experiment(rounds=1)).start()
    more = ToyHospitals({"A": 9, "B": 6, "C": 5, "D": 6})
    with pytest.raises(ConfigError, match=r"began with the hospitals .*--init"):
        toy_run(tmp_path, toy_experiment(data=more, rounds=2)).start()
    joined = toy_run(tmp_path / "new", toy_experiment(data=more, init=str(tmp_path), rounds=1))
    assert set(joined.start()["sites"]) == {"A", "B", "C", "D"}


def test_a_finished_run_builds_its_task_with_the_weights_that_it_began_with(tmp_path: Path) -> None:
    read_settings(
        ["--config", str(CONFIGS / "privacy_audit.yaml"), "--output", str(tmp_path)]
    ).save()
    run = FinishedRun(tmp_path)
    weights = run.fresh_task(3).state_dict()
    assert not _equal(run.fresh_task(0).state_dict(), weights)
    (tmp_path / INIT).parent.mkdir()
    safetensors.torch.save_file(weights, tmp_path / INIT)
    assert _equal(run.fresh_task(0).state_dict(), weights)


def _equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in state.items())
