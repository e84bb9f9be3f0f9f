"""Read and check the YAML file of a study."""

import argparse
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from lightning_fl.errors import ConfigError
from lightning_fl.results.scores import MODELS

Settings = Mapping[str, Any]
"""Settings of a run as they stand in YAML; a key may be dotted, e.g. `trainer.local_steps`."""
RESERVED = ("seed", "output")
"""Settings that the study itself gives to each run."""
UNFITTED = ("averaged", "own", "batch_norm")
"""Models of `evaluation.test_candidates` that no gradient of personalisation went into, by names
without an "@"."""
LIMITS = ("runs", "seeds")
"""Keys of a condition that are no settings: which runs it has, and which seeds."""


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Args:
        run: the run that it takes its scores from.
        model: which of the run's models, e.g. "global", "global_bn" or "personal"; with
            `evaluation.test_candidates` also a candidate of personalisation, e.g. "finetune@50",
            "averaged" (all layers are means over the sites), "own" or "batch_norm".
    """

    run: str
    model: str


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Args:
        base: complete config of a run, or several that are stacked; relative to the study file.
        runs: the federations to train: a name and the settings that differ from `base`.
        methods: rows of the tables; one run can serve several of them.
        reference: the row that the others are compared with.
        seeds: of the runs; each is a repetition of the whole study.
        overrides: settings of every run.
        conditions: worlds that each run is trained in: a name and settings. The keys `runs` and
            `seeds` limit a condition to some runs, or give it seeds of its own.
        grid: conditions as all combinations of some factors: factor -> level -> settings.
        floor: rows whose half a site's score should not fall below; it counts as collapsed there.
        metric: which of the test metrics the tables are about.
    """

    base: str | list[str]
    runs: dict[str, dict[str, Any] | None]
    methods: dict[str, Method]
    reference: str
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    overrides: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    grid: dict[str, dict[str, dict[str, Any] | None]] = field(default_factory=dict)
    floor: list[str] = field(default_factory=list)
    metric: str = "dice"

    def check(self) -> None:
        """Refuse names that nothing has.

        Raises:
            ConfigError: with the value and what was expected.
        """
        for name in ("runs", "methods", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"Expected `{name}` to name at least one, but it is empty.")
        for name, method in self.methods.items():
            check_names(f"methods.{name}.run", [method.run], self.runs)
            if "@" not in method.model:  # else a candidate of personalisation, e.g. finetune@50
                check_names(f"methods.{name}.model", [method.model], (*MODELS, *UNFITTED))
        check_names("reference", [self.reference], self.methods)
        check_names("floor", self.floor, self.methods)
        check_seeds(self.seeds)
        if self.conditions and self.grid:
            raise ConfigError("Expected either `conditions` or `grid`, but got both; keep one.")
        _check_reserved("overrides", [self.overrides])
        for name in ("runs", "conditions"):
            _check_reserved(name, getattr(self, name).values())
        for factor, levels in self.grid.items():
            if not levels:
                raise ConfigError(f"Expected `grid.{factor}` to have levels, but it is empty.")
            _check_reserved(f"grid.{factor}", levels.values())
        for names in (self.runs, self.conditions, *self.grid.values()):
            check_slugs(names)


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: the file is missing or is no YAML, a key is unknown, or a value cannot be.
    """
    if not path.is_file():
        raise ConfigError(f"There is no study file {str(path)!r}; configs/study/ has examples.")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"Expected {path} to hold keys and values, e.g. `runs:`, but got {raw!r}."
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study)
    try:
        parser.parse_object(deepcopy(raw))
    except argparse.ArgumentError as error:
        raise ConfigError(f"In {path}: {error}") from error
    # built from what stands in the file: the parser turns what has a class_path into an object
    methods = {name: Method(**method) for name, method in raw["methods"].items()}
    study = Study(**(raw | {"methods": methods}))
    study.check()
    for base in bases(study, path):
        if not base.is_file():
            raise ConfigError(
                f"`base` names {base}, which is no file; its path is relative to {path.parent}."
            )
    return study


def bases(study: Study, path: Path) -> list[Path]:
    """Return the config files that every run stacks its settings on."""
    names = [study.base] if isinstance(study.base, str) else study.base
    return [path.parent / name for name in names]


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuse a seed that is there twice, which would count twice in every mean, or is negative."""
    counts = Counter(seeds)
    twice = sorted(seed for seed, count in counts.items() if count > 1)
    if twice:
        raise ConfigError(f"Expected `seeds` to differ, but got {twice} twice; leave one out.")
    negative = [seed for seed in counts if seed < 0]
    if negative:
        raise ConfigError(f"Expected `seeds` to be at least 0, but got {negative}.")


def check_names(where: str, names: Iterable[str], among: Collection[str]) -> None:
    """Refuse a name that is not among those there are."""
    for name in names:
        if name not in among:
            raise ConfigError(f"`{where}` names {name!r}; expected one of {list(among)}.")


def slug(name: str) -> str:
    """Return a name as that of a folder: "FedAvg + BN" becomes "fedavg-bn"."""
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")


def _check_reserved(where: str, layers: Iterable[Settings | None]) -> None:
    """Refuse settings that every run is given by the study."""
    for layer in layers:
        for name in RESERVED:
            if name in (layer or {}):
                raise ConfigError(
                    f"`{where}` sets {name!r}, which the study gives to each run; leave it out"
                    " (`seeds` and --output are the study's own)."
                )


def check_slugs(names: Iterable[str]) -> None:
    """Refuse two names that would share a folder."""
    folders = {""}
    for name in names:
        if slug(name) in folders:
            raise ConfigError(
                f"{name!r} would have the folder {slug(name)!r}, which is taken or empty;"
                " rename it."
            )
        folders.add(slug(name))
