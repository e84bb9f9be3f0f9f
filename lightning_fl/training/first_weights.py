"""Start a run from the weights of a file or of another run."""

import copy
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_fl.errors import ConfigError
from lightning_fl.run_files import GLOBAL, MODELS

NET = "net."
"""Stands before the names of a net's entries inside a task."""


def weights_file(init: str) -> Path:
    """Return the file that the setting `init` names: itself, or the shared model of a run.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(init).expanduser()
    file = path / MODELS / f"{GLOBAL}.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(
            f"`init` is {init!r}, but there is no file {str(file)!r}. Give a .safetensors file, or "
            "the folder of a run; a run that was stopped writes its models after --resume."
        )
    return file


def with_weights(task: pl.LightningModule, file: Path) -> pl.LightningModule:
    """Return a copy of a task with the weights of a file.

    The file holds the entries of the task, or those of its `net` under the net's own names.

    Raises:
        ConfigError: it is no safetensors file, or it belongs to another network.
    """
    try:
        weights = safetensors.torch.load_file(file)
    except SafetensorError as error:
        raise ConfigError(
            f"{str(file)!r} cannot be read ({error}). `init` takes a safetensors file; write one "
            "by safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)."
        ) from error
    task = copy.deepcopy(task)
    entries = task.state_dict()
    if not any(name.startswith(NET) for name in weights):
        own = {name: value for name, value in entries.items() if not name.startswith(NET)}
        weights = own | {NET + name: value for name, value in weights.items()}
    if differences := _differences(weights, entries):
        shown = "; ".join(differences[:3]) + (" ..." if len(differences) > 3 else "")
        raise ConfigError(
            f"{str(file)!r} belongs to another network than `net` and `task`: {len(differences)} "
            f"entries differ ({shown}). Set `net` and `task` as in the run that made it."
        )
    task.load_state_dict(weights)
    return task


def _differences(weights: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> list[str]:
    """Say of each entry that differs how it does."""
    missing = [f"{name} is missing" for name in entries if name not in weights]
    unknown = [f"{name} is unknown" for name in weights if name not in entries]
    shapes = [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(entries[name].shape)}"
        for name in entries
        if name in weights and weights[name].shape != entries[name].shape
    ]
    return [*missing, *unknown, *shapes]
