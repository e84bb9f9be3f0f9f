"""Let a setting that gets another class begin with the defaults of that class.

jsonargparse keeps what an earlier file said of the class before, where the new class has a setting
of that name. `FedAvg` stacked on `FedPer` would so keep its personal layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from lightning_fl.run import class_names

Keys = tuple[str, ...]
"""Where a setting is, without `init_args`."""
NET: Keys = ("net",)
"""The only setting that keeps what its next class has too: nets of one library are alike."""
CLASSES = {"net", "task", "data", "algorithm", "aggregator", "engine", "privacy", "audit"}
"""Settings whose value is a class, also where it is written as a mere text."""


@dataclass
class _Source:
    """A part of a command line: a config file, an option, or something else.

    Attributes:
        tokens: as they stand on the command line.
        settings: what the part sets; nothing for a file that cannot be read.
        changed: whether `settings` count in place of `tokens`.
    """

    tokens: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    changed: bool = False

    def arguments(self) -> list[str]:
        if not self.changed:
            return self.tokens
        return ["--config", yaml.safe_dump(self.settings)] if self.settings else []

    def forget(self, keys: Keys) -> None:
        """Leave out a setting and all that belongs to it."""
        self.changed |= _remove(self.settings, keys)


def begin_anew(arguments: Sequence[str]) -> list[str]:
    """Return a command line without what was said of classes that a later part replaces."""
    return [token for source in _read(arguments)[0] for token in source.arguments()]


def kept_of_net(arguments: Sequence[str]) -> set[str]:
    """Return the settings of a net that were given for another class of net before."""
    return _read(class_names.in_arguments(arguments))[1]


def _read(arguments: Sequence[str]) -> tuple[list[_Source], set[str]]:
    sources = list(_sources(arguments))
    classes: dict[Keys, str] = {}
    kept: set[str] = set()
    for number, source in enumerate(sources):
        said = list(_values(source.settings))
        for keys, value in said:
            name = _class_in(keys, value, classes)
            if name is None or classes.get(keys, name) == name:
                continue
            before = sources[:number]
            if keys == NET:
                kept |= {name for earlier in before for name in _of_net(earlier.settings)}
                continue
            for earlier in before:
                earlier.forget(keys)
            classes = {k: v for k, v in classes.items() if k[: len(keys)] != keys}
        kept -= set(_of_net(source.settings))
        for keys, value in said:
            if (name := _class_in(keys, value, classes)) is not None:
                classes[keys] = name
    return sources, kept


def _sources(arguments: Sequence[str]) -> Iterator[_Source]:
    """Cut a command line into its parts."""
    tokens = list(arguments)
    while tokens:
        option, equals, value = tokens[0].partition("=")
        alone = not option.startswith("--") or not (equals or tokens[1:])
        if alone or (not equals and tokens[1].startswith("--")):
            yield _Source([tokens.pop(0)])
            continue
        part, tokens = (tokens[:1], tokens[1:]) if equals else (tokens[:2], tokens[2:])
        value = value if equals else part[1]
        if option == "--config":
            yield _Source(part, _file(value))
        else:
            yield _Source(part, _nested(option.lstrip("-"), value))


def _read_yaml(text: str) -> Any:
    """Read YAML as the parser does, to which 1e-3 is a number."""
    return get_loader("yaml")(text)


def _file(name: str) -> dict[str, Any]:
    """Return the settings of a config, which is a file or the text itself."""
    try:
        is_file = Path(name).is_file()
        settings = _read_yaml(Path(name).read_text(encoding="utf-8") if is_file else name)
    except (OSError, yaml.YAMLError):
        return {}  # the parser says what is wrong with it
    return class_names.in_settings(settings) if isinstance(settings, dict) else {}


def _nested(name: str, text: str) -> dict[str, Any]:
    """Return what an option of the command line sets, as a file would."""
    try:
        value = _read_yaml(text)
    except yaml.YAMLError:
        value = text
    for key in reversed(name.split(".")):
        value = {key: value}
    return value if isinstance(value, dict) else {}


def _values(settings: Mapping[str, Any], at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield every setting with its keys; outer ones come before those inside."""
    for key, value in settings.items():
        keys = at if key == "init_args" else (*at, key)
        if key != "init_args":
            yield keys, value
        if isinstance(value, Mapping):
            yield from _values(value, keys)


def _of_net(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the settings of the net."""
    return (keys[1] for keys, _ in _values(settings) if keys[:1] == NET and len(keys) == 2)


def _class_in(keys: Keys, value: Any, classes: Mapping[Keys, str]) -> str | None:
    """Return the class that a value names for a setting; None where it names none."""
    if isinstance(value, Mapping):
        value = value.get("class_path")
    elif not (keys in classes or (len(keys) == 1 and keys[0] in CLASSES)):
        return None
    return value if isinstance(value, str) else None


def _remove(settings: dict[str, Any], keys: Keys) -> bool:
    """Remove a setting from a tree of settings; return whether it was there."""
    key, *inner = keys
    if isinstance(settings.get("init_args"), dict) and _remove(settings["init_args"], keys):
        return True
    if key not in settings:
        return False
    if not inner:
        del settings[key]
        return True
    return isinstance(settings[key], dict) and _remove(settings[key], tuple(inner))
