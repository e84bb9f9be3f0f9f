"""Writes volumes as NIfTI, the same bytes every time."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

SCANNER, MILLIMETRES = 1, 2
"""NIfTI's codes for coordinates of the scanner, and for their unit."""


def write_nifti(
    path: Path,
    stored: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    scaling: tuple[float, float] = (1.0, 0.0),
) -> None:
    """Write a compressed NIfTI file.

    Args:
        path: file to write, .nii.gz.
        stored: the numbers in the file, of an integer type that NIfTI has.
        affine: from indices to mm.
        scaling: slope and intercept from the numbers in the file to their meaning.
    """
    image = nib.Nifti1Image(stored, affine, dtype=stored.dtype)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code=SCANNER)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=SCANNER)  # type: ignore[no-untyped-call]
    image.header["scl_slope"], image.header["scl_inter"] = scaling
    image.header["xyzt_units"] = MILLIMETRES
    # Without mtime=0 the time of writing would be part of the file.
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
