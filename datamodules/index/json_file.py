"""JSON files, and what is said of one that is none."""

import json
from pathlib import Path
from typing import Any

from lightning_fl.errors import ConfigError, DataError


def read_json(path: Path, kind: type) -> Any:
    """Read a JSON file whose outermost value is of a kind, dict or list.

    Raises:
        ConfigError: there is no such file.
        DataError: it is something else.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path} (looked in {Path.cwd()}).")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}). Download or write it again.") from error
    if not isinstance(value, kind):
        raise DataError(f"{path} holds a {type(value).__name__}, but a {kind.__name__} is needed.")
    return value
