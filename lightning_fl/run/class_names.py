"""Short names of the project's classes, in YAML and on the command line: `algorithm: FedAvg`."""

from collections.abc import Sequence
from inspect import isabstract
from typing import Any

from lightning_fl.aggregation import Aggregator
from lightning_fl.algorithms import Algorithm, ServerOptimizer
from lightning_fl.engines import Engine
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Candidate

PROJECT = "lightning_fl."
KINDS: dict[str, type] = {
    "algorithm": Algorithm,
    "aggregator": Aggregator,
    "engine": Engine,
    "server": ServerOptimizer,
    "candidates": Candidate,
}
"""Settings whose classes are the project's, with their base class."""


def class_paths(kind: type) -> dict[str, str]:
    """Return the import path of each class of a kind, by its name, sorted.

    A class is named by the package that offers it. Classes of rooms above that package, such as the
    rings of an audit, are no choice for a run.
    """
    package = ".".join(kind.__module__.split(".")[:2])
    todo, paths = [kind], {}
    while todo:
        todo += (subclass := todo.pop()).__subclasses__()
        offered = subclass.__module__.startswith(f"{package}.") and not isabstract(subclass)
        if offered and subclass is not kind:
            paths[subclass.__name__] = f"{package}.{subclass.__name__}"
    return dict(sorted(paths.items()))


def full_path(setting: str, name: str) -> str:
    """Return the import path that a setting's value means.

    Args:
        setting: a key of `KINDS`.
        name: of a class, in capitals or not, or an import path.

    Raises:
        ConfigError: the project has no such class; lists those that it has.
    """
    paths = class_paths(KINDS[setting])
    by_name = {short.lower(): path for short, path in paths.items()}
    package, _, short = name.rpartition(".")
    if not package and short.lower() in by_name:
        return by_name[short.lower()]
    if package and not (name.startswith(PROJECT) and short not in paths):
        return name  # of somebody else, or of the project and there
    raise ConfigError(
        f"Unknown `{setting}` {short!r}; known are {', '.join(paths)}. A class of your own is "
        "named by its full import path."
    )


def in_settings(settings: Any) -> Any:
    """Return settings, as a file has them, with full import paths."""
    if isinstance(settings, list):
        return [in_settings(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    return {k: _in_value(k, v) if k in KINDS else in_settings(v) for k, v in settings.items()}


def _in_value(setting: str, value: Any) -> Any:
    """Return the value of a setting of `KINDS`: a class, or a list of them."""
    if isinstance(value, list):
        return [_in_value(setting, entry) for entry in value]
    if isinstance(value, str):
        return full_path(setting, value)
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        value = value | {"class_path": full_path(setting, value["class_path"])}
    return in_settings(value)


def in_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with full import paths: `--engine ray` and `--engine=ray`."""
    full: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if setting := _setting(before):
            full.append(_in_text(setting, argument))
        elif equals and (setting := _setting(option)):
            full.append(f"{option}={_in_text(setting, value)}")
        else:
            full.append(argument)
    return full


def _setting(option: str) -> str:
    """Return the key of `KINDS` that an option sets, or ""."""
    name = option.rpartition(".")[2].lstrip("-").rstrip("+")
    return name if option.startswith("--") and name in KINDS else ""


def _in_text(setting: str, text: str) -> str:
    """Return a name with its full path; leave null, and YAML with structure, to the parser."""
    is_name = text != "null" and all(part.isidentifier() for part in text.split("."))
    return full_path(setting, text) if is_name else text
