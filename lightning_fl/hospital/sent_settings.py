"""Check settings that a coordinator sends, and lay a hospital's own over them."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from lightning_fl.errors import AgreementError, ConfigError
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.import_paths import nested
from lightning_fl.training.task import SETTINGS

REACHING = re.compile(r"://|^\s*(/|~|[A-Za-z]:[\\/]|\\\\)|(^|[\\/])\.\.([\\/]|$)|(hub|dir):")
"""What an address, an absolute path or one that climbs, and a hub's or folder's name look like."""
LONGEST = 2**20
"""The most characters of settings that a hospital reads."""


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


def check_reach(settings: Mapping[str, Any]) -> None:
    """Refuse texts by which a coordinator would make this machine fetch or read something.

    Raises:
        AgreementError: names the text.
    """
    for value in nested(settings):
        if isinstance(value, Mapping) and "pretrained_url" in value:
            raise AgreementError("The run has the setting `pretrained_url`, an address to fetch.")
        if isinstance(value, str) and REACHING.search(value):
            raise AgreementError(
                f"The run has the text {value[:80]!r}, which names an address, a hub or a path. "
                "Places are for each hospital to set; leave it out, or agree with the hospital to "
                "write it into its own file."
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
        return isinstance(yaml.load(text, _WithoutAliases), dict | list)
    except AliasError:
        return True  # where there is an alias there is what it stands for
    except yaml.YAMLError:
        return False


class AliasError(yaml.YAMLError):
    """Refuse a YAML text with an alias, by which a few bytes can stand for gigabytes."""


class _WithoutAliases(yaml.SafeLoader):
    """Load YAML in which nothing stands for something else."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise AliasError("it has an alias (*name); write the value out")
        return super().compose_node(parent, index)


def read_sent(text: str) -> dict[str, Any]:
    """Read the settings that a coordinator sent.

    Raises:
        ConfigError: they are too long, no mapping of YAML, or use aliases.
    """
    if len(text) > LONGEST:
        raise ConfigError(
            f"The coordinator sent settings of {len(text)} characters, but at most {LONGEST} are "
            "read."
        )
    try:
        values: Any = yaml.load(text, _WithoutAliases)
    except yaml.YAMLError as error:
        raise ConfigError(f"The settings that the coordinator sent cannot be read: {error}") from (
            error
        )
    if not isinstance(values, dict):
        raise ConfigError("The coordinator sent settings that are no mapping.")
    return values


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
