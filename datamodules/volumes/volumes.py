"""Scans and masks of several hospitals, slice by slice."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import Dataset

from datamodules.index.index import Index
from datamodules.index.row import Row
from datamodules.indexed import IndexedDataModule
from datamodules.normalisation import Normalisation
from datamodules.targets import ClassNumbers, MaskTarget
from datamodules.volumes.modality import Modality, default_normalisation
from datamodules.volumes.preprocessing import VolumePreprocessing
from datamodules.volumes.scan_cache import CachedScan, Lesions, ScanCache
from datamodules.volumes.slices import ROWS_AND_COLUMNS
from datamodules.volumes.volume_slices import (
    Choose,
    VolumeSlices,
    slices_of_scan,
    slices_with_lesion,
)
from lightning_fl.data.module import Sample
from lightning_fl.data.scans import ScanFiles
from lightning_fl.errors import ConfigError, DataError

_log = logging.getLogger(__name__)


class Volumes(IndexedDataModule):
    """Read scans of any modality (NIfTI, MHA, NRRD, NumPy, DICOM series); 2.5-D samples.

    Each scan is turned to the patient's axes, resampled and cut to one grid when first needed.
    `cache_dir` keeps it: at the default grid 12 MB for each CT, 20 MB for each other channel. Files
    must not change while a run uses them.

    A net needs `neighbours` input channels for each channel of a scan: those of the first come
    first. Its training sees no slice that lies wholly in the padding around a scan, and neither do
    the scores of slices.

    Args:
        index: which scans there are.
        modality: "CT" (in HU), "MR", or null for scans of any kind. Scans that do not fit are
            refused.
        normalise: how values become shades; null is a lung window for CT and a z-score of each scan
            for others.
        spacing: edges of the grid's voxels in mm, patient's left-right, back-front, feet-head.
        shape: voxels of the grid in these directions. The default spans 320 mm, enough for most
            lungs, in steps that nets with five halvings (multiples of 32) can take.
        direction: of the slices: "axial", "coronal" or "sagittal".
        neighbours: neighbouring slices that are the channels of an image, an odd number.
        target: what the net shall predict of a voxel: ClassNumbers, MaskMap, Threshold or Regions.
        classes: where `target` is null: 1 for binary masks of 0 and one other number, e.g. 255;
            otherwise the number of classes, background included, and masks hold 0 to classes - 1.
        train_slices: "all", or "lesion" to train on the slices with foreground and as many others,
            evenly spread; every patient keeps at least one. Scores are always of all slices.
        name: what a patient's scan is called in folders of patients to predict, without suffix; a
            list of names for channels in files of their own, in the order of the index, e.g.
            `["{patient}_flair", "{patient}_t1"]`, where {patient} is the name of the folder.
        cache_dir: folder for resampled scans; null is ~/.cache/lightning_fl/volumes.
        **kwargs: of the base class.

    Raises:
        ConfigError: a setting cannot work.
        DataError: the index refuses its files.
    """

    def __init__(
        self,
        index: Index,
        *,
        modality: Modality = None,
        normalise: Normalisation | None = None,
        spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
        shape: tuple[int, int, int] = (160, 160, 160),
        direction: str = "axial",
        neighbours: int = 3,
        target: MaskTarget | None = None,
        classes: int = 1,
        train_slices: Literal["all", "lesion"] = "all",
        name: str | Sequence[str] = "ct",
        cache_dir: str | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(index, **kwargs)
        normalise = normalise or default_normalisation(modality)
        target = target or ClassNumbers(classes)
        names = (name,) if isinstance(name, str) else tuple(name)
        self._as = VolumePreprocessing(
            spacing, shape, direction, neighbours, target, modality, normalise, names
        )
        if train_slices not in ("all", "lesion"):
            raise ConfigError(
                f"Expected `train_slices` to be 'all' or 'lesion', but got {train_slices!r}."
            )
        self.train_slices = train_slices
        folder = Path(cache_dir or "~/.cache/lightning_fl/volumes").expanduser()
        self._cache = ScanCache(folder, self._as.grid, target, normalise, modality)
        self._cached: dict[str, CachedScan] = {}  # both shared by copies for a site
        self._fitted: dict[tuple[str, ...], Normalisation] = {}

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return the slices of some patients; of those that train, what `train_slices` chooses."""
        train = self.split(site).train if self.train_slices == "lesion" else ()
        scans = [
            (self._scan(row), slices_with_lesion if row.patient in train else slices_of_scan)
            for row in self.rows(site, patients)
        ]
        return self._slices(site, scans, augment=augment)

    def scored_dataset(self, site: str, patients: Sequence[str]) -> Dataset[Sample]:
        """Return all slices of some patients, whatever `train_slices` chooses."""
        scans = [(self._scan(row), slices_of_scan) for row in self.rows(site, patients)]
        return self._slices(site, scans, augment=False)

    def pixel_size(self, site: str) -> tuple[float, float]:
        """Return height and width of a slice's pixel on the grid, in mm."""
        rows, columns = ROWS_AND_COLUMNS[self._as.direction]
        return self._as.spacing[rows], self._as.spacing[columns]

    def preprocessing(self, site: str) -> VolumePreprocessing:
        """Return the settings, with the hospital's own numbers where it has any."""
        return replace(self._as, normalise=self._normalisation(site))

    def pictures(self, images: Tensor) -> Tensor:
        """Return the slices that are predicted, without neighbours and further channels."""
        middle = self._as.neighbours // 2
        shown = images[:, middle : middle + 1]
        return self._as.normalise.picture(shown)

    def scans(self, site: str, patients: Sequence[str]) -> tuple[ScanFiles, ...]:
        """Return the files of some patients."""
        rows = self.rows(site, patients)
        names = [row.patient for row in rows]
        return tuple(
            ScanFiles(
                row.patient if names.count(row.patient) == 1 else f"{row.patient}.{number}",
                row.images[0] if len(row.images) == 1 else row.images,
                row.mask,
            )
            for number, row in enumerate(rows)
            if row.mask is not None  # as all of them, see `ScanCache.add`
        )

    def check(self) -> None:
        """Read every scan of this hospital once (of all, if bound to none), which caches it.

        Warns of lesions that lie outside the grid.

        Raises:
            DataError: the first file that training would stumble over, or too few patients.
        """
        channels: dict[int, Row] = {}
        for site in self.sites_to_check():
            self.split(site)
            for row in self.rows(site):
                scan = self._scan(row)
                prepared = scan.load()
                channels.setdefault(len(prepared.image), row)
                _check_channels(channels)
                _warn_of_lost_lesions(site, row.patient, prepared.lesions)
                scan.warn()

    def _scan(self, row: Row) -> CachedScan:
        """Return a row's scan. Its files are looked at once in a run: series have hundreds."""
        key = f"{row.images}"
        if key not in self._cached:
            self._cached[key] = self._cache.add(row)
        return self._cached[key]

    def _slices(
        self, site: str, scans: Sequence[tuple[CachedScan, Choose]], *, augment: bool
    ) -> VolumeSlices:
        transform = self.augment if augment else None
        return VolumeSlices(scans, self._as.slicing, self._normalisation(site), transform)

    def _normalisation(self, site: str) -> Normalisation:
        """Return the normalisation for a site's scans, fitted to its training patients."""
        normalise = self._as.normalise
        seen = self.seen(site) if normalise.per_site else ()
        if not seen:
            return normalise
        key = (site, *sorted(seen))
        if key not in self._fitted:
            measures = [self._scan(row).load().measures for row in self.rows(site, seen)]
            self._fitted[key] = normalise.fitted(measures)
        return self._fitted[key]


def _check_channels(channels: dict[int, Row]) -> None:
    """Raise a DataError if scans differ in their number of channels."""
    if len(channels) > 1:
        (first, row), (other, odd) = list(channels.items())[:2]
        raise DataError(
            f"{odd.place}: {odd.images[0]} has {other} channels, but {row.images[0]} has {first}. "
            "Give all scans the same channels, or leave the patient out."
        )


def _warn_of_lost_lesions(site: str, patient: str, lesions: Lesions) -> None:
    if lesions.lost:
        _log.warning(
            "Site %r, patient %r: %d of %d lesion voxels (%.1f %%) lie outside the grid and will "
            "never be seen. Enlarge `shape` or `spacing`.",
            *(site, patient, lesions.lost, lesions.voxels, 100 * lesions.lost / lesions.voxels),
        )
