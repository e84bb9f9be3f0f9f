"""What kind of scan it is: CT or MR."""

from typing import Literal

import numpy as np

from datamodules.normalisation import Normalisation, Window, ZScore
from datamodules.readers.volume import ScanVolume
from lightning_fl.errors import ConfigError, DataError

Modality = Literal["CT", "MR"] | None

AIR = -900
"""MR numbers are not negative, or small where they were normalised before; air in HU is below."""


def default_normalisation(modality: Modality) -> Normalisation:
    """Return the normalisation of a modality: a window of HU for CT, a z-score for others."""
    return Window() if modality == "CT" else ZScore()


def check_settings(modality: Modality, normalise: Normalisation) -> None:
    """Raise a ConfigError for an unknown modality, or for a window of HU where there are none."""
    if modality not in ("CT", "MR", None):
        raise ConfigError(f"Expected `modality` to be CT, MR or null, but got {modality!r}.")
    if modality == "MR" and isinstance(normalise, Window):
        raise ConfigError(
            "`normalise` is a Window of Hounsfield units, but `modality` is MR; use ZScore, "
            "SiteZScore or Percentiles."
        )


def check_modality(scan: ScanVolume, modality: str | None) -> None:
    """Raise a DataError for a scan of another modality than the setting says.

    Only DICOM files name theirs; otherwise the numbers have to tell. `Window` checks those of CT.
    """
    if modality is None:
        return
    if scan.modality not in (None, modality):
        raise DataError(
            f"{scan.source} has the modality {scan.modality!r}, but expected {modality!r}; set "
            "`modality` to what the scans are, or take it out."
        )
    if modality == "MR" and scan.modality is None and (low := np.nanmin(scan.values)) <= AIR:
        raise DataError(
            f"{scan.source} has values from {low:g} to {np.nanmax(scan.values):g}, as a CT in HU "
            "has, but `modality` is MR; set it to CT or to null."
        )
