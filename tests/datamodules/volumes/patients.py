"""Hospitals of tiny CT patients, and data modules that read them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules import CTFolder
from datamodules.index.row import Row
from tests.datamodules.readers.scan_files import SPACING, write_nifti

SHAPE = (24, 20, 8)
"""Of a patient's own array: 16.8 x 16 x 20 mm."""

TURNED = np.diag([-SPACING[0], SPACING[1], -SPACING[2], 1.0])
"""First axis to the patient's left and last to the feet, so that both are turned round."""

SETTINGS: dict[str, Any] = {"spacing": (1, 1, 2), "shape": (16, 16, 16), "batch_size": 3}


def scan(seed: int) -> npt.NDArray[np.int16]:
    """Lung-like noise, whose mean differs between patients."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1000 + 20 * seed, -300, SHAPE).astype(np.int16)


def lesion() -> npt.NDArray[np.uint8]:
    """In three of the eight slices, away from the middle."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[6:14, 5:15, 1:4] = 255
    return mask


def write_patient(folder: Path, seed: int = 0, mask: npt.NDArray[np.uint8] | None = None) -> Path:
    folder.mkdir(parents=True)
    write_nifti(folder / "ct.nii.gz", scan(seed), TURNED)
    write_nifti(folder / "mask.nii.gz", lesion() if mask is None else mask, TURNED)
    return folder


def row_of(folder: Path) -> Row:
    """The row of an index for what `write_patient` wrote."""
    images = (folder / "ct.nii.gz",)
    return Row("A", folder.name, images, folder / "mask.nii.gz", {}, None, None, str(folder))


def write_hospitals(root: Path, patients: int = 5) -> Path:
    """Hospitals A and B, and a hidden folder beside them."""
    for number, site in enumerate(("A", "B")):
        for patient in range(patients):
            write_patient(root / site / f"p{patient}", 10 * number + patient)
    (root / ".cache").mkdir()
    return root


def ct_folder(root: Path, **settings: Any) -> CTFolder:
    """With its cache beside the hospitals, in a hidden folder."""
    defaults = SETTINGS | {"cache_dir": str(root / ".cache")}
    return CTFolder(root, **(defaults | settings))
