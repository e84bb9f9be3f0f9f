"""Import paths that settings of version 0.1.0 name and that have moved since."""

import re
from collections.abc import Iterable

from lightning_fl.errors import ConfigError

MOVED = (
    (re.compile(r"lightning_fl\.privacy(\.\w+)*\.Audit"), "lightning_fl.audit.Audit"),
    (
        re.compile(r"lightning_fl\.differential_privacy\.(?:\w+\.)*(\w+|\*)"),
        r"lightning_fl.privacy.\1",
    ),
)
"""Patterns of old paths, with the path that takes their place."""


def refuse_moved(paths: Iterable[str], where: str) -> None:
    """Refuse import paths of version 0.1.0.

    Args:
        paths: that settings or a hospital's file name.
        where: the file that names them, for the error.

    Raises:
        ConfigError: a path has moved; says what to write instead.
    """
    for path in paths:
        for old, new in MOVED:
            if old.fullmatch(path):
                raise ConfigError(
                    f"{where} names {path}, which is {old.sub(new, path)} since version 0.2.0; "
                    "change it there."
                )
