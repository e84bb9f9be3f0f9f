"""A study file over quickstart, and a program in the place of train.py that takes no time."""

import copy
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_fl.run.config import resolve
from tests.folders import ROOT

WriteStudy = Callable[..., Path]

FAKE = '''
"""Writes what a run would; the environment says which run fails, and how."""
import json, os, signal, sys, time
from pathlib import Path

def check_packages():
    pass

def main(arguments):
    words = dict(zip(arguments[::2], arguments[1::2]))
    folder = Path(words.get("--output") or words["--resume"])
    run, seed = folder.parent.name, int(folder.name)
    print("arguments:", *arguments, "threads:", os.environ.get("OMP_NUM_THREADS"))
    how = json.loads(os.environ.get("FAKE", "{}")).get(f"{run}/{seed}")
    if how == "raise":
        raise RuntimeError("no luck")
    if how == "refuse":
        sys.stderr.write("error: not like this\\n")
        return 2
    if how == "exit":
        sys.exit(2)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "terminate":
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
    if how == "nothing":
        return 0
    value = {"fedavg": 0.5, "local": 0.4}[run] + 0.01 * seed
    score = lambda value: {"test": {"dice": value, "loss": 1 - value}}
    models = lambda value: {"global": score(value), "personal": score(value + 0.1),
                            "finetuned": score(value + 0.2),
                            "finetune[average]@100": score(value + 0.05)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({
        "sites": {"A": models(value + 0.1), "B": models(value - 0.1)},
        "mean": models(value), "worst": models(value - 0.1), "unseen": [],
        "dropped": [{"round": 1, "site": "B"}] * (2 if how == "lose" else 0),
        "costs": {"bytes": 1000, "seconds": {"train": 2.0, "evaluate": 1.0},
                  "gradients": {"train": 100, "personalise": 20}},
    }))
    (folder / "report.html").touch()
    return 0
'''


@functools.cache
def _resolved(arguments: tuple[str, ...]) -> dict[str, Any]:
    return resolve(arguments)


@pytest.fixture
def fake_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fake program where this process and its workers find it.

    Equal settings are read once for all tests: that takes longer than all else.
    """
    once = lambda arguments: copy.deepcopy(_resolved(tuple(arguments)))  # noqa: E731
    monkeypatch.setattr("study.conditions.resolve", once)
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text(FAKE)
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "train", module)
    monkeypatch.syspath_prepend(folder)


def study_settings() -> dict[str, Any]:
    """Two runs, three rows, two seeds."""
    return {
        "base": str(ROOT / "configs" / "quickstart.yaml"),
        "seeds": [0, 1],
        "runs": {
            "fedavg": {"algorithm": {"class_path": "lightning_fl.algorithms.FedAvg"}},
            "local": {"algorithm": {"class_path": "lightning_fl.algorithms.Local"}},
        },
        "methods": {
            "FedAvg": {"run": "fedavg", "model": "global"},
            "FedAvg + FT": {"run": "fedavg", "model": "personal"},
            "Local": {"run": "local", "model": "personal"},
        },
        "reference": "FedAvg",
    }


@pytest.fixture
def write_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteStudy:
    """Writes a study file; None takes a key away."""
    monkeypatch.chdir(ROOT)

    def write(name: str = "tiny", **changes: Any) -> Path:
        settings = study_settings() | changes
        file = tmp_path / f"{name}.yaml"
        kept = {key: value for key, value in settings.items() if value is not None}
        file.write_text(yaml.safe_dump(kept, sort_keys=False))
        return file

    return write
