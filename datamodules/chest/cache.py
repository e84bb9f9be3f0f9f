"""Finished patients on disk, so that memory does not grow with the number of hospitals."""

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.chest.patient import Patient, render
from lightning_fl.atomic import write_bytes
from lightning_fl.errors import DataError

VERSION = 1
"""Raise it with every change that moves a pixel: older files are then no longer found."""


def cache_path(folder: Path, patient: Patient) -> Path:
    """File of a patient; its name is a digest of everything that decides the pixels."""
    digest = hashlib.sha256(repr((VERSION, patient)).encode()).hexdigest()
    return folder / f"{digest[:32]}.npy"


def load(folder: Path, patient: Patient) -> npt.NDArray[np.uint8]:
    """Images and masks of a patient, mapped from disk; made first if missing or damaged.

    Two processes may make the same patient at once: both write the same bytes, each in one step.

    Args:
        folder: the cache; made when first needed.
        patient: the patient.

    Returns:
        Read-only array of shape (2, slices, size, size) with images and masks.

    Raises:
        DataError: the folder cannot be written.
    """
    path = cache_path(folder, patient)
    stack = _read(path, patient)
    if stack is not None:
        return stack
    made = render(patient)
    file = io.BytesIO()
    np.save(file, made)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, file.getvalue())
    except OSError as error:
        raise DataError(
            f"Cannot keep a generated patient in {folder} ({error}). "
            "Set `cache_dir` to a folder that is writable and has space."
        ) from error
    return made


def _read(path: Path, patient: Patient) -> npt.NDArray[np.uint8] | None:
    """The stored patient, or None if there is none or the file is cut off or something else."""
    try:
        stack = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    shape = (2, patient.slices, patient.size, patient.size)
    if not isinstance(stack, np.ndarray) or stack.shape != shape or stack.dtype != np.uint8:
        return None
    return stack
