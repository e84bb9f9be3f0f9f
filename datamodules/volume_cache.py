"""Arrays that are slow to make, kept on disk and mapped from there when asked for again."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lightning_fl.errors import DataError
from lightning_fl.files import write_bytes

T = TypeVar("T", bound=np.generic)

LONGEST = 1024
"""Bytes of a text in the cache."""

FileStamp = tuple[str, int, int]
"""Absolute path, size in bytes and time of the last change in nanoseconds."""


def cached(
    folder: Path,
    key: object,
    make: Callable[[], npt.NDArray[T]],
    shape: tuple[int, ...],
    dtype: type[T],
) -> npt.NDArray[T]:
    """An array mapped from disk; made first if it is missing or damaged.

    Two processes may make the same array at once: both write the same bytes, each in one step, and
    a process that is stopped in the middle leaves no file of that name.

    Args:
        folder: the cache; made when first needed.
        key: everything that decides the values: texts, numbers, paths and tuples or frozen
            dataclasses of them, whose `repr` is the same in every process.
        make: called only if the array has to be made.
        shape: of the array.
        dtype: of the array.

    Returns:
        Read-only array of that shape and type.

    Raises:
        DataError: the folder cannot be written.
    """
    path = cache_path(folder, key)
    found = stored(path, shape, dtype)
    if found is not None:
        return found
    made = make()
    keep(path, made)
    made.setflags(write=False)
    again = stored(path, shape, dtype)  # so that many scans in use need no memory of their own
    return made if again is None else again


def cached_text(folder: Path, key: object, make: Callable[[], str]) -> str:
    """A short text, kept as `cached` keeps arrays; what is beyond `LONGEST` bytes is lost."""

    def as_array() -> npt.NDArray[np.uint8]:
        data = make().encode()[:LONGEST]
        return np.frombuffer(data.ljust(LONGEST, b"\0"), dtype=np.uint8).copy()

    found = cached(folder, key, as_array, (LONGEST,), np.uint8)
    return found.tobytes().rstrip(b"\0").decode(errors="replace")


def cache_path(folder: Path, key: object) -> Path:
    """File of an array; its name is a digest of everything that decides the values."""
    return folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"


def stamps(*paths: Path) -> tuple[FileStamp, ...]:
    """What tells a changed file from an unchanged one, of files and of all files in folders.

    Raises:
        DataError: a file is gone or cannot be read; names it.
    """
    try:
        return tuple(_stamp(file) for path in paths for file in _files(path))
    except OSError as error:
        raise DataError(f"Cannot find {error.filename}: {error.strerror}.") from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if not file.is_dir())


def _stamp(path: Path) -> FileStamp:
    facts = path.stat()
    return str(path.absolute()), facts.st_size, facts.st_mtime_ns


def stored(path: Path, shape: tuple[int, ...], dtype: type[T]) -> npt.NDArray[T] | None:
    """The stored array, or None if there is none or the file is cut off or something else."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(found, np.ndarray) or found.shape != shape or found.dtype != dtype:
        return None
    return found


def keep(path: Path, array: npt.NDArray[T]) -> None:
    """Write an array in one step: two processes may write the same one.

    Raises:
        DataError: the folder cannot be written.
    """
    file = io.BytesIO()
    np.save(file, array)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, file.getvalue())
    except OSError as error:
        raise DataError(
            f"Cannot keep a prepared patient in {path.parent} ({error}). "
            "Set `cache_dir` to a folder that is writable and has space."
        ) from error
