"""Which hospitals there are, where each is a folder below one root."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fl.data.module import POOLED
from lightning_fl.errors import ConfigError


def sub_folders(folder: Path) -> list[Path]:
    """List the folders in a folder that are not hidden, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def site_names(root: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Return the hospitals that were asked for, or all sub folders that are not hidden.

    Raises:
        ConfigError: there is no such folder or hospital.
    """
    if not root.is_dir():
        raise ConfigError(
            f"`root` is {str(root)!r}, but there is no such folder (looked in {Path.cwd()})."
        )
    return chosen_sites(sites, [path.name for path in sub_folders(root)], f"folders in {root}")


def chosen_sites(sites: Sequence[str] | None, there: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the hospitals that were asked for, or all that are there.

    Args:
        sites: as the settings name them; None is all.
        there: names of all hospitals.
        what: what these are, for errors.

    Raises:
        ConfigError: there is no such hospital, or one may not be called so.
    """
    names = tuple(there if sites is None else sites)
    if not names or len(set(names)) < len(names) or not set(names) <= set(there):
        raise ConfigError(
            f"`sites` is {None if sites is None else list(sites)}, but has to name {what} once "
            f"each; there are {list(there)}."
        )
    if POOLED in names:
        raise ConfigError(f"A hospital cannot be called {POOLED!r}; rename it among the {what}.")
    return names
