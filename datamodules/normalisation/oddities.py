"""Warnings of odd numbers in files, once a file."""

import logging
from collections.abc import Callable
from pathlib import Path

from datamodules.volume_cache import cached_text

_log = logging.getLogger(__name__)
_reported: dict[Path, str] = {}  # a run reads a file several times, but one warning is enough


def report(path: Path, text: str) -> None:
    """Warn of a file, unless the text is empty or the file has been reported."""
    if path not in _reported:
        _reported[path] = text
        if text:
            _log.warning("%s: %s", path, text)


def warn_of(path: Path, folder: Path, key: object, read: Callable[[Path], object]) -> None:
    """Warn of a file's odd numbers, also where its volume came from the cache.

    Args:
        path: file or folder of the volume.
        folder: the cache, which keeps the warning too.
        key: of the warning in the cache.
        read: reads the volume, and so calls `report`.
    """

    def oddities() -> str:
        if path not in _reported:
            read(path)
        return _reported.get(path, "")

    report(path, cached_text(folder, key, oddities))
