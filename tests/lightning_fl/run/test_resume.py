"""Runs that are killed and resumed end exactly as those that were not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import FedAvg, PerFedAvg
from lightning_fl.coordinator.checkpoint import Checkpoints
from lightning_fl.coordinator.federation import Federation
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.run.experiment import Experiment
from lightning_fl.wire.channel import Channel
from tests.folders import ROOT
from tests.toy import ToyHospitals, ToyModule, toy_experiment, toy_run

ROUNDS = 6


def experiment(**settings: Any) -> Experiment:
    """Local BatchNorm, so that private state must be resumed too."""
    algorithm = PerFedAvg(0.01, batch_norm="local")
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True, momentum=0.9)
    defaults: dict[str, Any] = {"algorithm": algorithm, "module": module, "sites_per_round": 2}
    return toy_experiment(**(defaults | {"rounds": ROUNDS, **settings}))


def outcome(folder: Path) -> tuple[Any, ...]:
    """Everything a clock does not decide: weights, personal models, metrics, results."""
    models = {
        p.name: {k: v.tolist() for k, v in safetensors.torch.load_file(p).items()}
        for p in sorted((folder / "models").iterdir())
    }
    results = json.loads((folder / "results.json").read_text())
    del results["costs"]
    return models, results, (folder / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("whole")
    toy_run(folder, experiment()).start()
    return outcome(folder)


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("method", ["_train", "_aggregate", "_broadcast", "_finish_round"])
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


def with_ring(bits: int) -> Experiment:
    """All three sites in a ring; the compact one carries what it clipped from round to round."""
    return experiment(aggregator=CyclicCKKS(bits=bits), sites_per_round=3, rounds=4)


@pytest.mark.parametrize("bits", [24, 16])
def test_interrupted_inside_a_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    toy_run(tmp_path / "whole", with_ring(bits)).start()
    for number, op in enumerate(
        ("ring_join", "ring_open", "ring_start", "ring_pass", "ring_close", "load"), 1
    ):
        folder = tmp_path / op
        interrupt_at(monkeypatch, op, call=3 if number > 4 else 2)
        with pytest.raises(InterruptedRunError):
            toy_run(folder, with_ring(bits)).start()
        monkeypatch.undo()
        toy_run(folder, with_ring(bits)).start()
        assert outcome(folder) == outcome(tmp_path / "whole")


def test_what_a_pausing_site_carries_is_there_when_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of five sites in a round, on a coarse grid: some pause for several rounds."""

    def made() -> Experiment:
        data = ToyHospitals({name: 5 for name in "ABCDE"})
        aggregator = CyclicCKKS(bits=8)
        return experiment(data=data, aggregator=aggregator, sites_per_round=3, rounds=10)

    toy_run(tmp_path / "whole", made()).start()
    for calls in range(4, 10):
        folder = tmp_path / str(calls)
        interrupt_at(monkeypatch, "ring_close", calls)
        with pytest.raises(InterruptedRunError):
            toy_run(folder, made()).start()
        monkeypatch.undo()
        toy_run(folder, made()).start()
        assert outcome(folder) == outcome(tmp_path / "whole")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, op: str, call: int) -> None:
    """Stop the run right after the sites have answered `op` for the `call`-th time."""
    original, count = Channel.ask, 0

    def ask(self: Channel, operation: str, messages: Any) -> Any:
        nonlocal count
        answers = original(self, operation, messages)
        count += operation == op
        if operation == op and count == call:
            raise InterruptedRunError
        return answers

    monkeypatch.setattr(Channel, "ask", ask)


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.lightning_fl.run.test_resume import experiment, with_ring
from tests.toy import toy_run
sys.stdout.write("ready\\n"); sys.stdout.flush()
made = with_ring(int(sys.argv[2])) if len(sys.argv) > 2 else experiment()
toy_run(Path(sys.argv[1]), made).start()
"""


@pytest.mark.parametrize("delay", [0.1, 0.45, 0.8, 1.2])
def test_killed_at_any_moment(tmp_path: Path, uninterrupted: tuple[Any, ...], delay: float) -> None:
    kill_after(delay, str(tmp_path))
    toy_run(tmp_path, experiment()).start()
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize("delay", [0.2, 0.5, 0.9])
def test_killed_at_any_moment_with_the_ring(tmp_path: Path, delay: float) -> None:
    toy_run(tmp_path / "whole", with_ring(16)).start()
    kill_after(delay, str(tmp_path / "killed"), "16")
    toy_run(tmp_path / "killed", with_ring(16)).start()
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def kill_after(delay: float, *arguments: str) -> None:
    """Start a run in a process of its own and kill it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_finished_run_may_be_resumed_and_extended(
    tmp_path: Path, uninterrupted: tuple[Any, ...]
) -> None:
    toy_run(tmp_path, experiment(rounds=3)).start()
    toy_run(tmp_path, experiment(rounds=ROUNDS)).start()
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


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    toy_run(tmp_path, experiment()).start()
    names = sorted(p.stem for p in (tmp_path / "checkpoints").glob("round-*"))
    assert names == ["round-00005", "round-00006"]
    state = Checkpoints(tmp_path / "checkpoints").latest()
    assert state is not None
    assert state.round == ROUNDS
    assert torch.isfinite(state.weights).all()
