"""Plan which runs a study consists of, and the settings of each."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fl.errors import ConfigError
from lightning_fl.run.config import resolve
from study.study_file import (
    LIMITS,
    RESERVED,
    Settings,
    Study,
    bases,
    check_names,
    check_seeds,
    check_slugs,
    slug,
)

ONLY = "all"
"""The condition of a study that names none."""


@dataclass(frozen=True)
class Condition:
    """A world that runs are trained in.

    Attributes:
        name: e.g. "full", or "unet / 8 sites" in a grid.
        settings: what differs from the other conditions.
        runs: the names of its runs.
        seeds: the seeds of its runs.
    """

    name: str
    settings: Settings
    runs: tuple[str, ...]
    seeds: tuple[int, ...]


class PlannedRun(NamedTuple):
    """One run: its condition, name and seed, and where it lies below the study's folder."""

    condition: str
    run: str
    seed: int

    @property
    def path(self) -> Path:
        """E.g. full/fedavg/0."""
        return Path(slug(self.condition), slug(self.run), str(self.seed))

    def __str__(self) -> str:
        return f"{self.condition}: {self.run}, seed {self.seed}"


def conditions_of(study: Study, seeds: Sequence[int] | None = None) -> list[Condition]:
    """Return the conditions of a study, those of a grid as the product of its factors.

    Args:
        study: as read.
        seeds: instead of the file's.

    Raises:
        ConfigError: a condition limits itself to an unknown run, or to none; two cells of a grid
            would have the same folder.
    """
    factors = study.grid or {"": study.conditions or {ONLY: {}}}
    conditions = []
    for levels in product(*(factor.items() for factor in factors.values())):
        name = " / ".join(level for level, _ in levels)
        conditions.append(_condition(study, name, [layer or {} for _, layer in levels], seeds))
    check_slugs(condition.name for condition in conditions)  # "unet" / "4 8" is "unet 4" / "8"
    return conditions


def _condition(
    study: Study, name: str, layers: Sequence[Settings], seeds: Sequence[int] | None
) -> Condition:
    settings: dict[str, Any] = {}
    runs, repetitions = list(study.runs), list(study.seeds)
    for layer in layers:
        settings = merged(settings, nested({k: v for k, v in layer.items() if k not in LIMITS}))
        limit = _limit(layer, "runs", str, name)
        if limit is not None:
            check_names(f"runs of condition {name}", limit, study.runs)
            runs = [run for run in runs if run in limit]
        limit = _limit(layer, "seeds", int, name)
        repetitions = repetitions if limit is None else limit
    check_seeds(repetitions)
    for key, values in (("runs", runs), ("seeds", repetitions)):
        if not values:
            raise ConfigError(f"Condition {name!r} has no {key}; let its `{key}` name some.")
    return Condition(name, settings, tuple(runs), tuple(repetitions if seeds is None else seeds))


def _limit(layer: Settings, key: str, kind: type, condition: str) -> list[Any] | None:
    """Return a limit of a condition, where there is one."""
    value = layer.get(key)
    if value is None or (isinstance(value, list) and all(type(v) is kind for v in value)):
        return value
    raise ConfigError(
        f"Expected `{key}` of condition {condition!r} to be a list of {kind.__name__}, but got"
        f" {value!r}."
    )


def settings_of(
    study: Study, path: Path, conditions: Sequence[Condition]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the complete settings of each condition's runs, all but seed and folder.

    Raises:
        ConfigError: settings that train.py would refuse to read; says of which run.
    """
    start = [word for base in bases(study, path) for word in ("--config", str(base))]
    complete = {}
    for condition in conditions:
        for run in condition.runs:
            layers = (nested(study.overrides), nested(study.runs[run] or {}), condition.settings)
            words = [word for layer in layers for word in ("--config", json.dumps(layer))]
            try:
                settings = resolve([*start, *words])
            except ConfigError as error:
                raise ConfigError(
                    f"Run {run!r} in condition {condition.name!r} cannot be started: {error}"
                ) from error
            complete[condition.name, run] = {k: v for k, v in settings.items() if k not in RESERVED}
    return complete


def nested(settings: Settings) -> dict[str, Any]:
    """Undo dotted keys: {"a.b": 1} becomes {"a": {"b": 1}}.

    Raises:
        ConfigError: a key is set both whole and in part.
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        part: Any = value
        for name in reversed(key.split(".")):
            part = {name: part}
        tree = merged(tree, part)
    return tree


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one.

    Raises:
        ConfigError: both have a value for the same key; which one should count is not said.
    """
    tree = dict(below)
    for key, value in above.items():
        if key not in tree:
            tree[key] = value
        elif isinstance(value, Mapping) and isinstance(tree[key], Mapping):
            tree[key] = merged(tree[key], value)
        else:
            raise ConfigError(
                f"Expected {key!r} to be set once, but got {tree[key]!r} and {value!r}; keep one."
            )
    return tree


def planned(conditions: Sequence[Condition], runs: Collection[str]) -> list[PlannedRun]:
    """Return the runs to train, seed by seed, so that a study cut short has whole repetitions."""
    seeds = list(dict.fromkeys(seed for condition in conditions for seed in condition.seeds))
    return [
        PlannedRun(condition.name, run, seed)
        for seed in seeds
        for condition in conditions
        for run in condition.runs
        if run in runs and seed in condition.seeds
    ]
