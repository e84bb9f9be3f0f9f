"""RAD-ChestCT as the data of a federation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from datamodules.indexed import IndexedDataModule
from datamodules.rad_chest.preprocessing import RadPreprocessing
from datamodules.rad_chest.rad_table import RadTable
from datamodules.rad_chest.samples import VolumeSamples, cached_cube, warn_of_volume
from datamodules.rad_chest.site_rule import SiteRule
from lightning_fl.data.module import LabelledSample
from lightning_fl.errors import ConfigError


class RadChestCT(IndexedDataModule):
    """Reads `root/<VolumeAcc_DEID>` (.npz with int16 HU under `ct`) and `root/metadata.csv`.

    For classification: a sample is a volume scaled to a cube, float32 (1, size, size, size) in
    [0, 1], and its label. The first use scales a volume and keeps it in `cache_dir` (0.7 MB at 70
    voxels a side); window and thickness are applied to that. All volumes of a patient go to the
    same part of the split. The table is the original one with two more columns, for label and
    hospital; all other columns are ignored.

    Args:
        root: folder of the table and the volumes.
        metadata: the table, in `root` or as an absolute path.
        volumes: folder of the .npz files, in `root` or as an absolute path.
        label: column with class numbers.
        classes: labels are 0 to classes - 1.
        patient: column of patients; null is MRN_DEID or, in a table without it, NoteAcc_DEID.
        sites_by: column that tells the hospital, e.g. client or Manufacturer.
        bins: makes hospitals of intervals of that column instead: [1.0, 3.0] of SliceThickness
            gives "below-1", "1-to-3" and "3-and-above".
        sites: hospitals to use, in this order; null is all of them, by name.
        thickness: simulates scanners with thick slices: for each hospital how many neighbouring
            slices of the cube are averaged; `size // k` slices are left, with zeros above and
            below. A hospital that is not named has 1.
        size: side of the cube, in voxels.
        level: centre of the window in HU.
        width: of the window in HU; what lies below it becomes 0, what lies above it 1.
        cache_dir: folder for scaled volumes; null is ~/.cache/lightning_fl/rad_chest.
        **kwargs: of the base class. `augment` is called with the volume alone.

    Raises:
        ConfigError: a setting cannot work.
        DataError: the table cannot be used.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        metadata: str = "metadata.csv",
        volumes: str = ".",
        label: str = "binary_infection_to_lung_ratio",
        classes: int = 2,
        patient: str | None = None,
        sites_by: str = "client",
        bins: Sequence[float] | None = None,
        sites: Sequence[str] | None = None,
        thickness: dict[str, int] | None = None,
        size: int = 70,
        level: float = -400,
        width: float = 1200,
        cache_dir: str | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        if classes < 2:
            raise ConfigError(f"Expected `classes` to be at least 2, but got {classes}.")
        place = Path(root).expanduser()
        rule = SiteRule(sites_by, tuple(bins or ()))
        super().__init__(
            RadTable(place / metadata, place / volumes, label, classes, patient, rule, sites),
            sites=sites,
            **kwargs,
        )
        names = self.site_names()
        slices = dict.fromkeys(names, 1) | (thickness or {})
        self._prepare = {site: RadPreprocessing(size, level, width, slices[site]) for site in names}
        unknown = sorted(set(slices) - set(names))
        if unknown:
            raise ConfigError(f"`thickness` names {unknown}, but the hospitals are {list(names)}.")
        self.cache_dir = Path(cache_dir or "~/.cache/lightning_fl/rad_chest").expanduser()

    def dataset(  # type: ignore[override]  # its samples have a label where others have a mask
        self, site: str, patients: Sequence[str], *, augment: bool
    ) -> Dataset[LabelledSample]:
        """Return the volumes of some patients, by name."""
        transform = self.augment if augment else None
        rows = self.rows(site, patients)
        return VolumeSamples(rows, self._prepare[site], self.cache_dir, transform)

    def preprocessing(self, site: str) -> RadPreprocessing:
        """Return size, window and slice thickness of a hospital."""
        return self._prepare[site]

    def check(self) -> None:
        """Read every volume of this hospital once (of all, if bound to none), into the cache.

        Raises:
            DataError: the first file that training would stumble over, or too few patients.
        """
        for site in self.sites_to_check():
            self.split(site)
            for row in self.rows(site):
                cached_cube(row.images[0], self._prepare[site], self.cache_dir)
                warn_of_volume(row.images[0], self.cache_dir)
