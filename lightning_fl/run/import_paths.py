"""Import paths in settings."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def nested(values: Any) -> Iterator[Any]:
    """Yield settings themselves and all values in them, however deep."""
    yield values
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from nested(value)


def import_paths(values: Any) -> Iterator[str]:
    """Yield all texts in settings that could make Python import and call something.

    These are every `class_path`, and every text that looks like an import path, since a setting may
    want a function.
    """
    for value in nested(values):
        if isinstance(value, Mapping) and "class_path" in value:
            yield str(value["class_path"])
        elif isinstance(value, str) and _PATH.fullmatch(value.strip()):
            yield value.strip()
