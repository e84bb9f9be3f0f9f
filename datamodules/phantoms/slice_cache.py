"""Finished patients on disk, so that memory does not grow with the number of hospitals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.phantoms.patient import Patient, render
from datamodules.volume_cache import cached

VERSION = 1
"""Raise it with every change that moves a pixel: older files are then no longer found."""


def load(folder: Path, patient: Patient) -> npt.NDArray[np.uint8]:
    """Map a patient's images and masks, (2, slices, size, size); make them first if missing."""
    shape = (2, patient.slices, patient.size, patient.size)
    return cached(folder, (VERSION, patient), lambda: render(patient), shape, np.uint8)
