"""Which hospitals there are, where each is a folder below one root."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fl.data.module import POOLED
from lightning_fl.errors import ConfigError


def site_names(root: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """The hospitals that were asked for, or all sub folders of the root that are not hidden.

    Raises:
        ConfigError: there is no such folder or hospital.
    """
    if not root.is_dir():
        raise ConfigError(
            f"`root` is {str(root)!r}, but there is no such folder (looked in {Path.cwd()})."
        )
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] not in "._")
    names = tuple(found if sites is None else sites)
    unknown = sorted(set(names) - set(found))
    if unknown or not names or len(set(names)) < len(names):
        raise ConfigError(
            f"`sites` is {None if sites is None else list(sites)}, but has to name folders in "
            f"{root} once each; there are {found}."
        )
    if POOLED in names:
        raise ConfigError(f"A hospital cannot be called {POOLED!r}; rename {root / POOLED}.")
    return names
