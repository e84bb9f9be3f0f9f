"""Arrays that are slow to make, kept on disk and mapped from there when asked for again."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from datamodules.index.files import split_npz
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
    """Map an array from disk; make it first if it is missing or damaged.

    Two processes may make an array at once: both write equal bytes, each in one step. A process
    that is stopped in the middle leaves no file of that name.

    Args:
        folder: the cache; made when first needed.
        key: everything that decides the values: texts, numbers, paths and tuples or frozen
            dataclasses of them, whose `repr` is equal in every process.
        make: called only if the array has to be made.
        shape: of the array; -1 stands for any length.
        dtype: of the array.

    Returns:
        Read-only array of that shape and type.

    Raises:
        DataError: the folder cannot be written.
    """
    path = cache_path(folder, key)
    stored = _stored(path, shape, dtype)
    if stored is not None:
        return stored
    array = make()
    _keep(path, array)
    array.setflags(write=False)
    stored = _stored(path, shape, dtype)  # so that many scans in use need no memory of their own
    return array if stored is None else stored


def cached_text(folder: Path, key: object, make: Callable[[], str]) -> str:
    """Keep a short text as `cached` keeps arrays; what is beyond `LONGEST` bytes is lost."""

    def as_array() -> npt.NDArray[np.uint8]:
        data = make().encode()[:LONGEST]
        return np.frombuffer(data.ljust(LONGEST, b"\0"), dtype=np.uint8).copy()

    text = cached(folder, key, as_array, (LONGEST,), np.uint8)
    return text.tobytes().rstrip(b"\0").decode(errors="replace")


def cache_path(folder: Path, key: object) -> Path:
    """Name the file of an array by a digest of everything that decides the values."""
    return folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"


def stamps(*paths: Path) -> tuple[FileStamp, ...]:
    """Return what tells a changed file from an unchanged one, for files and for whole folders.

    Raises:
        DataError: a file is gone or cannot be read; names it.
    """
    try:
        return tuple(_stamp(file) for path in paths for file in _files(path))
    except OSError as error:
        raise DataError(f"Cannot find {error.filename}: {error.strerror}.") from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [split_npz(path)[0]]
    return sorted(file for file in path.rglob("*") if not file.is_dir())


def _stamp(path: Path) -> FileStamp:
    facts = path.stat()
    return str(path.absolute()), facts.st_size, facts.st_mtime_ns


def _stored(path: Path, shape: tuple[int, ...], dtype: type[T]) -> npt.NDArray[T] | None:
    """Map a stored array. Return None if the file is missing, cut off or something else."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != len(shape):
        return None
    return array if all(w in (-1, n) for w, n in zip(shape, array.shape, strict=True)) else None


def _keep(path: Path, array: npt.NDArray[T]) -> None:
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
