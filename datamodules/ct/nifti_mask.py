"""NIfTI masks: numbers of a file as classes on the grid of its CT."""

import numpy as np
import numpy.typing as npt

from datamodules.ct.nifti import NiftiFile
from datamodules.ct.space import PlacedArray, fit_onto, inverse, turn
from lightning_fl.errors import DataError


def read_nifti_mask(
    file: NiftiFile, ct: PlacedArray, classes: int, *, may_turn: bool
) -> npt.NDArray[np.uint8]:
    """Read a mask onto the array of its CT: class numbers in the shape and order of the CT's.

    Args:
        file: the mask.
        ct: its CT.
        classes: see `datamodules.ct.volume.read_mask`.
        may_turn: whether the mask's axes may be swapped or reversed against the CT's.

    Raises:
        DataError: it lies elsewhere than the CT, holds other numbers or is damaged.
    """
    orientation = fit_onto(file, ct, may_turn=may_turn)
    mask = np.empty(ct.shape, dtype=np.uint8, order="F")
    as_in_file = turn(mask, inverse(orientation))
    drawn: set[float] = set()
    for part, values in file.slabs():
        drawn.update(np.unique(values[values != 0]).tolist())
        _check_numbers(drawn, file, classes)
        as_in_file[:, :, part] = values != 0 if classes == 1 else values
    return mask


def _check_numbers(drawn: set[float], file: NiftiFile, classes: int) -> None:
    """Raise DataError if the numbers beside 0 are not the classes expected."""
    if classes == 1:
        wrong = len(drawn) > 1 or not all(np.isfinite(value) for value in drawn)
        expected = "0 and one other number"
    else:
        wrong = not drawn <= {float(number) for number in range(1, classes)}
        expected = f"whole numbers from 0 to {classes - 1}"
    if wrong:
        numbers = ", ".join(f"{value:g}" for value in sorted(drawn)[:6])
        raise DataError(
            f"Mask {file.source} holds {numbers}{' and others' * (len(drawn) > 6)} beside 0, but "
            f"expected {expected}; set `classes` to what it holds or relabel it."
        )
