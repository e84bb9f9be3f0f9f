"""Short names of the engines, in YAML and on the command line."""

from collections.abc import Sequence
from typing import Any

ENGINES = {
    "local": "lightning_fl.engines.Local",
    "nvflare": "lightning_fl.engines.NVFlare",
    "ray": "lightning_fl.engines.Ray",
}
"""A setting `engine` that is one of these means the class."""
_OPTION = "--engine"


def in_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line with full names: `--engine ray` and `--engine=ray`."""
    full = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if before == _OPTION:
            full.append(ENGINES.get(argument, argument))
        elif equals and option == _OPTION:
            full.append(f"{option}={ENGINES.get(value, value)}")
        else:
            full.append(argument)
    return full


def in_settings(settings: Any) -> Any:
    """Settings, as a file has them, with full names: `engine: ray` and its `class_path`."""
    engine = settings.get("engine") if isinstance(settings, dict) else None
    if isinstance(engine, str):
        return settings | {"engine": ENGINES.get(engine, engine)}
    if isinstance(engine, dict) and isinstance(name := engine.get("class_path"), str):
        return settings | {"engine": engine | {"class_path": ENGINES.get(name, name)}}
    return settings
