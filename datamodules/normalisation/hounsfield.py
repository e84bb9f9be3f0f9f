"""What numbers a CT may hold: rounding, limits, and warnings of numbers that are no HU."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.normalisation.oddities import report
from lightning_fl.errors import DataError

AIR = -1024
"""Lowest value kept; what lies below is air or padding."""

DENSEST = 4000
"""Highest value kept; only metal lies above, and no window of soft tissue or bone reaches it."""

NOISE = -1100
"""Below this a value is not noise in air but padding, or no HU."""


def to_int16(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int16], int]:
    """Round numbers to whole HU in int16, and count those that were not finite and became air."""
    if np.can_cast(values.dtype, np.int16):
        return values.astype(np.int16, copy=False), 0
    limits = np.iinfo(np.int16)
    if values.dtype.kind == "u":  # the lower limit would not be a number of its kind
        return np.minimum(values, limits.max).astype(np.int16), 0
    if values.dtype.kind == "i":
        return np.clip(values, limits.min, limits.max).astype(np.int16), 0
    finite = np.isfinite(values)
    rounded = np.clip(np.rint(np.where(finite, values, AIR)), limits.min, limits.max)
    return rounded.astype(np.int16), values.size - int(np.count_nonzero(finite))


def limit(hu: npt.NDArray[np.int16], path: Path, lost: int = 0) -> None:
    """Bring HU into [AIR, DENSEST], in place, and warn once of a file whose values are no HU.

    Args:
        hu: as read from the file.
        path: file or folder it comes from.
        lost: how many of its voxels were NaN or infinite.
    """
    report(path, " ".join(filter(None, (_outside(hu), _shifted(hu), _lost(lost)))))
    np.clip(hu, AIR, DENSEST, out=hu)


def refuse_shifted(values: npt.NDArray[Any], path: Path) -> None:
    """Raise a DataError for values that cannot be HU: none of them lies below 0.

    Even a scan that was cut to the body has fat, which lies below 0.
    """
    if text := _shifted(values):
        raise DataError(
            f"{path}: {text} If it is no CT, set `modality` to MR, or `normalise` to another than "
            "Window."
        )


def _outside(hu: npt.NDArray[np.int16]) -> str:
    # Plane by plane: a comparison of the whole volume would need half its memory again.
    planes = np.moveaxis(hu, -1, 0)
    below = sum(int(np.count_nonzero(plane < NOISE)) for plane in planes)
    above = sum(int(np.count_nonzero(plane > DENSEST)) for plane in planes)
    if not below + above:
        return ""
    return (
        f"{below} of {hu.size} voxels lie below {NOISE} HU and {above} above {DENSEST} (values go "
        f"from {hu.min()} to {hu.max()}). They are set to {AIR} and {DENSEST}. Numbers such as "
        "-2000 and -3024 are usually padding around a round field of view, and high ones metal."
    )


def _shifted(hu: npt.NDArray[Any]) -> str:
    low, high = f"{np.nanmin(hu):g}", f"{np.nanmax(hu):g}"
    if not np.nanmin(hu) >= 0:
        return ""
    if np.nanmax(hu) <= 255:
        return (
            f"All values lie between {low} and {high}, as in a picture of 8 bits and not in HU, "
            "where air is -1000. Export the scan with its original values."
        )
    return (
        f"All values lie between {low} and {high}, none below 0, but in HU air is -1000. The "
        "header has probably lost the rescale slope and intercept (often 1 and -1024)."
    )


def _lost(count: int) -> str:
    return f"{count} voxels are NaN or infinite and are set to {AIR}." if count else ""
