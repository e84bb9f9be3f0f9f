"""Check settings that a coordinator sends, and lay a hospital's own over them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.import_paths import nested
from lightning_fl.training.task import SETTINGS


def check_form(settings: Mapping[str, Any]) -> None:
    """Refuse what could mean something else to the parser than it looks like here.

    Raises:
        ConfigError: names the key or the text.
    """
    keys = {*Experiment.__dataclass_fields__, *SETTINGS}
    unknown = sorted(str(key) for key in settings if key not in keys)
    if unknown:
        raise ConfigError(f"The run has settings that are none: {', '.join(unknown)}.")
    for value in nested(settings):
        if isinstance(value, Mapping):
            _check_keys(value)
        elif isinstance(value, str) and _is_structure(value):
            raise ConfigError(
                f"The run has the text {value[:80]!r}, in which settings are hidden. Write them "
                "out."
            )


def _check_keys(values: Mapping[Any, Any]) -> None:
    for key in values:
        if not isinstance(key, str) or "." in key or key.endswith("+") or key == "dict_kwargs":
            raise ConfigError(
                f"The run has the key {key!r}, by which settings could be changed past this "
                "hospital's own. Write settings as nested mappings, without dict_kwargs."
            )


def _is_structure(text: str) -> bool:
    """Say whether a text is YAML for a mapping or a list, which the parser would look into."""
    try:
        return isinstance(yaml.safe_load(text), dict | list)
    except yaml.YAMLError:
        return False


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over others.

    Mappings are merged, unless they name different classes; anything else is replaced.
    """
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return dict(above)
    result = dict(below)
    for key, value in above.items():
        covered = result.get(key)
        both = isinstance(covered, Mapping) and isinstance(value, Mapping)
        result[key] = merged(covered, value) if both else value  # type: ignore[arg-type]
    return result


def without(values: Mapping[str, Any], paths: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Leave out the settings at some paths, written a.b.c."""
    return {
        key: without(value, paths, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if f"{prefix}{key}" not in paths
    }


def differing(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys, written a.b.c, that have another value in other settings."""
    for key, value in wanted.items():
        other = actual.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}.{inner}" for inner in differing(value, other))
        elif str(value) != str(other):
            yield key
