"""CT scans and masks of several hospitals in folders, slice by slice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.normalisation import Window
from datamodules.volumes.ct_patients import CTPatients
from datamodules.volumes.volumes import Volumes


class CTFolder(Volumes):
    """Read `root/<site>/<patient>/` with a CT `ct` and a mask `mask`; 2.5-D samples.

    A CT is a NIfTI file (ct.nii.gz, ct.nii) or the folder `ct` of a DICOM series; a mask is a NIfTI
    file or, for a series, a DICOM segmentation (mask.dcm). Everything else is as in `Volumes`, with
    a window of HU.

    Args:
        root: folder of the hospitals' folders.
        sites: hospitals to use, in this order; null is all sub folders, by name.
        level: middle of the window in HU. Images are scaled so that the window spans 0 to 1.
        width: of the window in HU.
        image: what a patient's CT is called, without suffix.
        mask: what a patient's mask is called, without suffix.
        fold_file: CSV file with the columns site, patient and fold (0 to folds - 1); the patients
            of `fold` are tested, in place of folds by chance.
        **kwargs: of the base class.

    Raises:
        ConfigError: a setting cannot work.
        DataError: files are missing, or not named as they should be.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        sites: Sequence[str] | None = None,
        level: float = -600.0,
        width: float = 1500.0,
        image: str = "ct",
        mask: str = "mask",
        fold_file: str | Path | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        folds = None if fold_file is None else Path(fold_file).expanduser()
        index = CTPatients(Path(root).expanduser(), sites, image, mask, folds, kwargs.get("folds"))
        super().__init__(
            index, sites=sites, modality="CT", normalise=Window(level, width), name=image, **kwargs
        )
