"""Limit what jsonargparse may import in a hospital's process, whatever the settings say."""

import importlib
from collections.abc import Iterable

from jsonargparse import set_parsing_settings

from lightning_fl.errors import ConfigError

PACKAGE = ".*"
"""Ends a path that stands for all that is defined in a package."""


def enforce(allow: Iterable[str]) -> None:
    """Deny every import path but some, for the rest of this process.

    jsonargparse checks where it imports, and checks the path where the object is defined. So a
    module that is allowed does not lead to what it has imported itself.

    Args:
        allow: `a.b.C` for one object, `a.b.*` for all that is defined in a package.

    Raises:
        ConfigError: a single object is not there.
    """
    # the hospital's process itself names this engine, see `site_maker.NOT_OF_SITES`
    listed = {*allow, "lightning_fl.engines.Local"}
    packages = {path.removesuffix(PACKAGE) for path in listed if path.endswith(PACKAGE)}
    single = {path for path in listed if not path.endswith(PACKAGE)}
    entries = sorted(packages | single | {_defined_at(path) for path in single})
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=entries)


def _defined_at(path: str) -> str:
    """Return the path where an object is defined, which may differ from where it is offered."""
    module, _, name = path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"`allow` lists {path!r}, which is not installed here ({error}). Correct it, or "
            "install what has it."
        ) from error
    return f"{target.__module__}.{target.__qualname__}"
