"""Runs that are killed and resumed end exactly as those that were not."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import FedAvg, PerFedAvg
from lightning_fl.coordinator.checkpoint import Checkpoints
from lightning_fl.coordinator.federation import Federation
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from tests.folders import ROOT
from tests.lightning_fl.run.resuming import InterruptedRunError, outcome, stopped_and_resumed
from tests.toy import ToyHospitals, ToyModule, toy_experiment, toy_run

ROUNDS = 4


def experiment(**settings: Any) -> Experiment:
    """Local BatchNorm, so that private state must be resumed too."""
    algorithm = PerFedAvg(0.01, batch_norm="local")
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True, momentum=0.9)
    defaults: dict[str, Any] = {
        "algorithm": algorithm,
        "module": module,
        "sites_per_round": 2,
        "rounds": ROUNDS,
        "personalisation": Personalisation([FineTune([1], 0.01)]),
    }
    return toy_experiment(**(defaults | settings))


def with_ring(bits: int) -> Experiment:
    """All three sites in a ring; the compact one carries what it clipped from round to round."""
    return experiment(aggregator=CyclicCKKS(bits=bits), sites_per_round=3, rounds=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    toy_run(folder, experiment()).start()
    return folder


@pytest.fixture(scope="module")
def uninterrupted(whole: Path) -> tuple[Any, ...]:
    return outcome(whole)


@pytest.fixture(scope="module")
def uninterrupted_ring(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """The outcome of a run in the ring of so many bits, which nothing has stopped."""

    @functools.cache
    def made(bits: int) -> tuple[Any, ...]:
        folder = tmp_path_factory.mktemp("ring")
        toy_run(folder, with_ring(bits)).start()
        return outcome(folder)

    return made


@pytest.mark.parametrize("method", ["_train", "_aggregate", "_save", "_advance", "_finish_round"])
@pytest.mark.parametrize("calls", [1, 3])
def test_interrupted_between_any_two_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[Any, ...],
    method: str,
    calls: int,
) -> None:
    original = getattr(Federation, method)
    count = 0

    def interrupt(self: Federation, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise InterruptedRunError
        return original(self, *arguments)

    monkeypatch.setattr(Federation, method, interrupt)
    with pytest.raises(InterruptedRunError):
        toy_run(tmp_path, experiment()).start()
    monkeypatch.undo()
    toy_run(tmp_path, experiment()).start()
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    "file",
    [
        "A/weights.safetensors",
        "round-00003.safetensors",
        "B/personal.safetensors",
        "models/B.safetensors",
    ],
)
def test_interrupted_in_the_middle_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[Any, ...], file: str
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt  # which no site takes for a failure of its own

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until(file, interrupt))
        with pytest.raises(KeyboardInterrupt):
            toy_run(tmp_path, experiment()).start()
    toy_run(tmp_path, experiment()).start()
    assert outcome(tmp_path) == uninterrupted


def replace_until(file: str, stop: Callable[[], None]) -> Callable[..., None]:
    """Return `os.replace`, but for a file that it never puts in its place."""
    original = os.replace

    def replace(source: Any, target: Any, **settings: Any) -> None:
        if str(target).endswith(file):
            stop()
        original(source, target, **settings)

    return replace


@pytest.mark.parametrize(
    ("bits", "operations"),
    [
        (16, ("ring_join", "ring_open", "ring_start", "ring_pass", "ring_close", "apply")),
        (24, ("ring_pass",)),  # nothing is carried: one interruption stands for all
    ],
)
def test_interrupted_inside_a_ring(
    tmp_path: Path,
    uninterrupted_ring: Callable[[int], Any],
    bits: int,
    operations: tuple[str, ...],
) -> None:
    for op in operations:
        stopped_and_resumed(tmp_path / op, lambda: with_ring(bits), op, call=2)
        assert outcome(tmp_path / op) == uninterrupted_ring(bits)


def test_what_a_pausing_site_carries_is_there_when_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Three of five sites in a round, on a coarse grid: some pause for several rounds."""

    def made() -> Experiment:
        return experiment(
            data=ToyHospitals({name: 5 for name in "ABCDE"}),
            aggregator=CyclicCKKS(bits=8),
            sites_per_round=3,
            rounds=8,
            personalisation=Personalisation([]),
        )

    toy_run(tmp_path / "whole", made()).start()
    for call in (4, 7):
        stopped_and_resumed(tmp_path / str(call), made, "ring_close", call)
        assert outcome(tmp_path / str(call)) == outcome(tmp_path / "whole")


SCRIPT = """
import functools, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.lightning_fl.run.test_resume import KILLED, killed_run, replace_until
for name, file in KILLED.items():
    child = os.fork()
    if child == 0:
        os.replace = replace_until(file, functools.partial(os.kill, os.getpid(), signal.SIGKILL))
        killed_run(name, Path(sys.argv[1])).start()
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    print(name)
"""
"""Runs in processes of their own, each of which is killed in the middle of a file."""
KILLED = {"plain": "B/private-00002.safetensors", "ring": "B/carry-00002.safetensors"}


def killed_run(name: str, folder: Path) -> Run:
    return toy_run(folder / name, with_ring(16) if name == "ring" else experiment())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all killed runs; one process imports the libraries for them all."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    environment = os.environ | {"PYTHONPATH": "."}
    names = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    assert names.stdout.decode().split() == list(KILLED)
    return folder


def test_a_killed_run_goes_on(killed: Path, uninterrupted: tuple[Any, ...]) -> None:
    killed_run("plain", killed).start()
    assert outcome(killed / "plain") == uninterrupted


def test_a_killed_run_with_the_ring_goes_on(
    killed: Path, uninterrupted_ring: Callable[[int], Any]
) -> None:
    killed_run("ring", killed).start()
    assert outcome(killed / "ring") == uninterrupted_ring(16)


def test_a_finished_run_may_be_resumed_and_extended(
    tmp_path: Path, uninterrupted: tuple[Any, ...]
) -> None:
    toy_run(tmp_path, experiment(rounds=ROUNDS - 1)).start()
    toy_run(tmp_path, experiment()).start()
    models, results, _ = outcome(tmp_path)
    assert (models, results["sites"]) == (uninterrupted[0], uninterrupted[1]["sites"])


def test_another_network_is_refused(tmp_path: Path) -> None:
    toy_run(tmp_path, experiment(rounds=1)).start()
    with pytest.raises(ConfigError, match="has another network"):
        toy_run(tmp_path, experiment(module=ToyModule(width=5), algorithm=FedAvg())).start()


def test_a_damaged_checkpoint_names_the_remedy(
    tmp_path: Path, uninterrupted: tuple[Any, ...]
) -> None:
    toy_run(tmp_path, experiment(rounds=2)).start()
    newest = tmp_path / "checkpoints" / "round-00002.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"is damaged .* Delete it to go on from the one before"):
        toy_run(tmp_path, experiment()).start()
    newest.unlink()
    toy_run(tmp_path, experiment()).start()
    assert outcome(tmp_path) == uninterrupted


def test_changed_patients_are_refused(tmp_path: Path) -> None:
    toy_run(tmp_path, experiment(rounds=1)).start()
    more = ToyHospitals({"A": 12, "B": 6, "C": 5})
    with pytest.raises(SiteError, match="The patients in 'A' or their split are not those"):
        toy_run(tmp_path, experiment(rounds=2, data=more)).start()


def test_two_checkpoints_are_kept(whole: Path) -> None:
    names = sorted(p.stem for p in (whole / "checkpoints").glob("round-*"))
    assert names == [f"round-{ROUNDS - 1:05d}", f"round-{ROUNDS:05d}"]
    state = Checkpoints(whole / "checkpoints").latest()
    assert state is not None
    assert state.round == ROUNDS
    assert torch.isfinite(state.weights).all()
