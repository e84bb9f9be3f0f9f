"""Load what lightning_fl must not import: programs and packages that stand beside it."""

import importlib
from pathlib import Path
from types import ModuleType

from lightning_fl.errors import ConfigError


def load_by_name(name: str, *, file: str, user: str) -> ModuleType:
    """Import a module by its name.

    Args:
        name: of the module.
        file: where it is in the repository, for the error.
        user: what needs it, for the error, e.g. "the study".

    Raises:
        ConfigError: Python does not find it; an import that fails inside it is raised as it is.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"There is no {file} in {Path.cwd()}; start {user} in the repository's root."
        ) from error
