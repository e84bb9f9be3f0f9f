"""Runs that are stopped on their way and go on, and all that they leave."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from lightning_fl.coordinator.checkpoint import Checkpoints
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.wire.channel import Channel
from tests.toy import toy_run


class InterruptedRunError(Exception):
    pass


@contextmanager
def interrupted_at(op: str, call: int) -> Iterator[None]:
    """Stop a run right after the sites have answered `op` for the `call`-th time."""
    original, count = Channel.ask, 0

    def ask(self: Channel, operation: str, messages: Any) -> Any:
        nonlocal count
        answers = original(self, operation, messages)
        count += operation == op
        if operation == op and count == call:
            raise InterruptedRunError
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "ask", ask)
        with pytest.raises(InterruptedRunError):
            yield


def stopped_and_resumed(
    folder: Path,
    made: Callable[[], Experiment],
    op: str,
    call: int,
    run_in: Callable[[Path, Experiment], Run] = toy_run,
) -> Run:
    """A finished run that was stopped after `op` on its way."""
    with interrupted_at(op, call):
        run_in(folder, made()).start()
    run = run_in(folder, made())
    run.start()
    return run


def outcome(folder: Path) -> tuple[Any, ...]:
    """Everything a clock does not decide: weights, personal models, metrics, results."""
    models = {p.name: _values(p) for p in sorted((folder / "models").iterdir())}
    results = json.loads((folder / "results.json").read_text())
    del results["costs"]
    return models, results, (folder / "metrics.csv").read_text()


def left_by_training(folder: Path) -> tuple[Any, ...]:
    """All that rounds hand on: global state, every site's own files of every round, metrics."""
    checkpoints = folder / "checkpoints"
    saved = Checkpoints(checkpoints).latest()
    assert saved is not None
    state: dict[str, Any] = {k: v for k, v in vars(saved).items() if k not in ("run", "rows")}
    state |= {key: state[key].tolist() for key in ("weights", "best_weights")}
    state["server"] = {key: value.tolist() for key, value in saved.server.items()}
    own = [p for kind in ("private", "second") for p in checkpoints.glob(f"sites/*/{kind}-*")]
    kept = {str(p.relative_to(checkpoints)): _values(p) for p in own}
    return state, kept, (folder / "metrics.csv").read_text()


def _values(file: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in safetensors.torch.load_file(file).items()}
