"""Finished patients on disk, so that memory does not grow with the number of hospitals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules import volume_cache
from datamodules.phantoms.patient import Patient, render

VERSION = 1
"""Raise it with every change that moves a pixel: older files are then no longer found."""


def cache_path(folder: Path, patient: Patient) -> Path:
    """File of a patient; its name is a digest of everything that decides the pixels."""
    return volume_cache.cache_path(folder, (VERSION, patient))


def load(folder: Path, patient: Patient) -> npt.NDArray[np.uint8]:
    """Images and masks of a patient, mapped from disk; made first if missing or damaged.

    Args:
        folder: the cache; made when first needed.
        patient: the patient.

    Returns:
        Read-only array of shape (2, slices, size, size) with images and masks.

    Raises:
        DataError: the folder cannot be written.
    """
    path, shape = cache_path(folder, patient), (2, patient.slices, patient.size, patient.size)
    stack = volume_cache.stored(path, shape, np.uint8)
    if stack is None:
        stack = render(patient)
        volume_cache.keep(path, stack)
    return stack
