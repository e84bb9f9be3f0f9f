"""What a run from Python writes down of its settings, which are objects and no YAML."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightning_fl.files import write_text
from lightning_fl.run.experiment import Experiment
from lightning_fl.run_files import SETTINGS

NAMED_ALONE = ("task", "callbacks", "loggers")
"""Settings of which the classes alone are written: their values can be many, or secret."""


def describe(experiment: Experiment) -> dict[str, Any]:
    """Return the classes of an experiment and their plain values, under the keys of a config.

    It is a record. The run cannot be built from it.
    """
    net = getattr(experiment.task, "net", None)
    named = {"net": net, **{name: getattr(experiment, name) for name in NAMED_ALONE}}
    settings = {name: _classes(value) for name, value in named.items()}
    others = [part.name for part in fields(experiment) if part.name not in NAMED_ALONE]
    return settings | {name: _described(getattr(experiment, name)) for name in others}


def describe_into(folder: Path, experiment: Experiment) -> None:
    """Write the settings that a run begins with into its folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(describe(experiment), sort_keys=False)
    write_text(folder / SETTINGS, f"# A record; the run was started from Python.\n{text}")


def _classes(value: Any) -> Any:
    """Return the class of an object, or of each in a list."""
    if isinstance(value, Sequence):
        return [_classes(entry) for entry in value]
    return None if value is None else {"class_path": _path(value)}


def _described(value: Any) -> Any:
    """Return a plain value as it is, and of an object its class and its plain attributes."""
    if isinstance(value, list | tuple):
        return [_described(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if _is_plain(value):
        return value
    if not hasattr(value, "__dict__"):  # e.g. a path
        return str(value)
    if is_dataclass(value):
        return {part.name: _described(getattr(value, part.name)) for part in fields(value)}
    public = {name: v for name, v in vars(value).items() if not name.startswith("_")}
    plain = {name: _described(v) for name, v in public.items() if _is_plain_list(v)}
    return {"class_path": _path(value), "init_args": plain}


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _is_plain_list(value: Any) -> bool:
    return _is_plain(value) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))


def _path(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
