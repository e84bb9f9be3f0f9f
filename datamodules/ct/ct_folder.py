"""CT scans and masks of several hospitals, slice by slice."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import Dataset

from datamodules.ct.fold_file import read_folds
from datamodules.ct.index import index_patients
from datamodules.ct.preprocessing import CTPreprocessing
from datamodules.ct.samples import CTSlices, slices_of_scan, slices_with_lesion
from datamodules.ct.scan_cache import CachedScan, Lesions, ScanCache
from datamodules.ct.slices import ROWS_AND_COLUMNS
from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.data.scans import ScanFiles
from lightning_fl.errors import ConfigError, DataError

_log = logging.getLogger(__name__)


class CTFolder(FederatedDataModule):
    """Reads `root/<site>/<patient>/` with a CT `ct` and a mask `mask`; 2.5-D samples.

    A CT is a NIfTI file (ct.nii.gz, ct.nii) or the folder `ct` of a DICOM series; a mask is a NIfTI
    file or, for a series, a DICOM segmentation (mask.dcm). Each scan is turned to the patient's
    axes, resampled and cut to one grid when first needed. `cache_dir` keeps it: 12 MB for each scan
    at the default grid. Files must not change while a run uses them.

    A net needs `neighbours` input channels. Its training sees no slice that lies wholly in the
    padding around a scan, and neither do the scores of slices.

    Args:
        root: folder of the hospitals' folders.
        sites: hospitals to use, in this order; null is all sub folders, by name.
        spacing: edges of the grid's voxels in mm, patient's left-right, back-front, feet-head.
        shape: voxels of the grid in these directions. The default spans 320 mm, enough for most
            lungs, in steps that nets with five halvings (multiples of 32) can take.
        level: middle of the window in HU. Images are scaled so that the window spans 0 to 1.
        width: of the window in HU.
        direction: of the slices: "axial", "coronal" or "sagittal".
        neighbours: neighbouring slices that are the channels of an image, an odd number.
        classes: 1 for binary masks of 0 and one other number, e.g. 255; otherwise the number of
            classes, background included, and masks hold 0 to classes - 1.
        image: what a patient's CT is called, without suffix.
        mask: what a patient's mask is called, without suffix.
        train_slices: "all", or "lesion" to train on the slices with foreground and as many others,
            evenly spread; every patient keeps at least one. Scores are always of all slices.
        fold_file: CSV file with the columns site, patient and fold (0 to folds - 1); the patients
            of `fold` are tested, in place of folds by chance.
        cache_dir: folder for resampled scans; null is ~/.cache/lightning_fl/ct.
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
        spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
        shape: tuple[int, int, int] = (160, 160, 160),
        level: float = -600.0,
        width: float = 1500.0,
        direction: str = "axial",
        neighbours: int = 3,
        classes: int = 1,
        image: str = "ct",
        mask: str = "mask",
        train_slices: Literal["all", "lesion"] = "all",
        fold_file: str | Path | None = None,
        cache_dir: str | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(**kwargs)
        self._as = CTPreprocessing(
            spacing, shape, level, width, direction, neighbours, classes, image
        )
        if train_slices not in ("all", "lesion"):
            raise ConfigError(
                f"Expected `train_slices` to be 'all' or 'lesion', but got {train_slices!r}."
            )
        self.train_slices = train_slices
        self._index = index_patients(Path(root).expanduser(), sites, image, mask)
        self._fold_file = None if fold_file is None else Path(fold_file).expanduser()
        self._fold_of = self._read_folds()
        folder = Path(cache_dir or "~/.cache/lightning_fl/ct").expanduser()
        self._cache = ScanCache(folder, self._as.grid, classes)
        self._cached: dict[tuple[str, str], CachedScan] = {}  # shared by copies for a site

    def site_names(self) -> tuple[str, ...]:
        """Return the sub folders, or `sites`."""
        return tuple(self._index)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return a hospital's folders, sorted."""
        return tuple(self._index[site])

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return the slices of some patients; of those that train, what `train_slices` chooses."""
        train = self.split(site).train if self.train_slices == "lesion" else ()
        scans = [
            (self._scan(site, p), slices_with_lesion if p in train else slices_of_scan)
            for p in patients
        ]
        return CTSlices(scans, self._as.slicing, self.augment if augment else None)

    def scored_dataset(self, site: str, patients: Sequence[str]) -> Dataset[Sample]:
        """Return all slices of some patients, whatever `train_slices` chooses."""
        scans = [(self._scan(site, patient), slices_of_scan) for patient in patients]
        return CTSlices(scans, self._as.slicing)

    def pixel_size(self, site: str) -> tuple[float, float]:
        """Return height and width of a slice's pixel on the grid, in mm."""
        rows, columns = ROWS_AND_COLUMNS[self._as.direction]
        return self._as.spacing[rows], self._as.spacing[columns]

    def preprocessing(self, site: str) -> CTPreprocessing:
        """Return the settings, which all hospitals share."""
        return self._as

    def pictures(self, images: Tensor) -> Tensor:
        """Return the slices that are predicted, without their neighbours: (N, 1, H, W)."""
        middle = self._as.neighbours // 2
        return images[:, middle : middle + 1]

    def scans(self, site: str, patients: Sequence[str]) -> tuple[ScanFiles, ...]:
        """Return the files of some patients."""
        return tuple(self._index[site][patient] for patient in patients)

    def check(self) -> None:
        """Read every scan of this hospital once (of all, if bound to none), which caches it.

        Warns of lesions that lie outside the grid.

        Raises:
            DataError: the first file that training would stumble over, or too few patients.
        """
        for site in self.sites_to_check():
            self.split(site)
            for patient in self.patients(site):
                scan = self._scan(site, patient)
                _warn_of_lost_lesions(site, patient, scan.load().lesions)
                scan.warn()

    def _scan(self, site: str, patient: str) -> CachedScan:
        """Return a patient's scan. Its files are looked at once in a run: series have hundreds."""
        key = site, patient
        if key not in self._cached:
            self._cached[key] = self._cache.add(self._index[site][patient])
        return self._cached[key]

    def _read_folds(self) -> dict[tuple[str, str], int]:
        if self._fold_file is None:
            return {}
        if self.folds is None:
            raise ConfigError(
                f"`fold_file` is {self._fold_file}, but `folds` is null; set it to the number of "
                "folds in the file and `fold` to the one to test."
            )
        return read_folds(self._fold_file, self._index, self.folds)

    def _test_patients(self, site: str, shuffled: list[str]) -> list[str]:
        if self._fold_file is None:
            return super()._test_patients(site, shuffled)
        chosen = [patient for patient in shuffled if self._fold_of[site, patient] == self.fold]
        if not chosen:
            raise DataError(
                f"Site {site!r} has no patient in fold {self.fold} of {self._fold_file}, so none "
                "to test. Test another `fold`, or leave the site out of `sites`."
            )
        return chosen


def _warn_of_lost_lesions(site: str, patient: str, lesions: Lesions) -> None:
    if lesions.lost:
        _log.warning(
            "Site %r, patient %r: %d of %d lesion voxels (%.1f %%) lie outside the grid and will "
            "never be seen. Enlarge `shape` or `spacing`.",
            *(site, patient, lesions.lost, lesions.voxels, 100 * lesions.lost / lesions.voxels),
        )
