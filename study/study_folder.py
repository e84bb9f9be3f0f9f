"""Keep the folder of a study: whose it is, the settings of its runs, and where each run stands."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from study.conditions import Condition, PlannedRun
from study.study_file import slug
from study.worker import Job

STUDY = "study.yaml"
SETTINGS = "settings.yaml"
FAILED = "failed.txt"
LOG = "run.log"
RunSettings = Mapping[tuple[str, str], dict[str, Any]]
"""(condition, run) -> complete settings."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second runner out of the folder; the lock ends with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another study is running in {folder}. Wait for it, or choose another folder with"
                " --output."
            ) from None
        yield


def claim(folder: Path, study: Path, settings: RunSettings) -> None:
    """Write down what the folder holds, once `check_claim` has nothing against it."""
    check_claim(folder, study, settings)
    write_text(folder / STUDY, _first_line(study) + study.read_text(encoding="utf-8"))
    for (condition, run), values in settings.items():
        file = folder / slug(condition) / slug(run) / SETTINGS
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def check_claim(folder: Path, study: Path, settings: RunSettings) -> None:
    """Refuse a folder whose numbers are not this study's; writes nothing.

    Args:
        folder: of the study; what it does not hold yet is not checked.
        study: the study file; a folder belongs to one name.
        settings: of each condition's runs.

    Raises:
        ConfigError: the folder holds another study, or runs with other settings.
    """
    file = folder / STUDY
    if file.is_file() and not file.read_text(encoding="utf-8").startswith(_first_line(study)):
        name = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# Study ")
        raise ConfigError(
            f"{folder} holds the study {name!r}, but this is {study.stem!r}. Choose another folder"
            " with --output."
        )
    for (condition, run), values in settings.items():
        _refuse_changes(folder / slug(condition) / slug(run) / SETTINGS, values, condition, run)


def _first_line(study: Path) -> str:
    return f"# Study {study.stem}\n"


def _refuse_changes(file: Path, values: dict[str, Any], condition: str, run: str) -> None:
    if not file.is_file():
        return
    before = dict(flat(yaml.safe_load(file.read_text(encoding="utf-8"))))
    after = dict(flat(values))
    changed = sorted(
        key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
    )
    if changed:
        raise ConfigError(
            f"The settings of run {run!r} in condition {condition!r} are not those of {file}:"
            f" {changed} differ. Choose another folder with --output, or undo the change."
        )


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def is_finished(folder: Path) -> bool:
    """Say whether a run came to its end: the report is the last thing that it writes."""
    return (folder / "report.html").is_file() and (folder / "results.json").is_file()


def with_earlier_seeds(folder: Path, conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions with all seeds that the folder has, those of earlier calls too."""
    complete = []
    for condition in conditions:
        names = {path.name for path in (folder / slug(condition.name)).glob("*/*") if path.is_dir()}
        earlier = sorted(int(name) for name in names if name.isdecimal())
        seeds = tuple(dict.fromkeys((*condition.seeds, *earlier)))
        complete.append(replace(condition, seeds=seeds))
    return complete


def job(folder: Path, run: PlannedRun) -> Job:
    """Return what a worker has to do: begin the run, or go on where it was cut off."""
    place = folder / run.path
    if any(place.glob("checkpoints/round-*")):
        arguments = ["--resume", str(place)]
    else:
        settings = place.parent / SETTINGS
        arguments = ["--config", str(settings), "--seed", str(run.seed), "--output", str(place)]
    return Job(str(run), tuple(arguments), place / LOG)


def write_outcome(folder: Path, run: PlannedRun, reason: str) -> None:
    """Keep the reason of a failure in the run's folder; "" is none and takes an old one away."""
    file = folder / run.path / FAILED
    if reason:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, reason + "\n")
    else:
        file.unlink(missing_ok=True)


def failure(folder: Path, run: PlannedRun) -> str:
    """Return why a run is not finished."""
    file = folder / run.path / FAILED
    return file.read_text(encoding="utf-8").strip() if file.is_file() else "not run yet"
