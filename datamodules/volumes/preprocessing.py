"""How files of scans become what a net sees, as settings that a run stores for prediction."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.index.files import split_npz, without_suffix
from datamodules.normalisation import Normalisation, Window
from datamodules.readers.volume import READERS, ScanVolume, read_channels, suffix_of
from datamodules.site_folders import sub_folders
from datamodules.targets import ClassNumbers, MaskTarget
from datamodules.volume_cache import FileStamp, stamps
from datamodules.volumes.grid import ScanGrid, Shape, Spacing
from datamodules.volumes.modality import Modality, check_modality, check_settings
from datamodules.volumes.sliced_scan import SlicedScan
from datamodules.volumes.slices import Slicing
from lightning_fl.data.scans import Preprocessing, ScanSource
from lightning_fl.errors import DataError


@dataclass(frozen=True)
class VolumePreprocessing(Preprocessing):
    """Hold the settings of the grid, the slices and the normalisation.

    Attributes:
        spacing: see `ScanGrid`.
        shape: see `ScanGrid`.
        direction: see `Slicing`.
        neighbours: see `Slicing`.
        target: makes classes or regions of masks.
        modality: of all scans, or None.
        normalise: how values become shades.
        images: what a patient's scan is called in the patient's folder, without suffix; one name
            for each channel that is a file of its own. {patient} stands for the folder's name.

    Raises:
        ConfigError: a setting is out of range or unknown.
    """

    spacing: Spacing = (2.0, 2.0, 2.0)
    shape: Shape = (160, 160, 160)
    direction: str = "axial"
    neighbours: int = 3
    target: MaskTarget = field(default_factory=ClassNumbers)
    modality: Modality = "CT"
    normalise: Normalisation = field(default_factory=Window)
    images: tuple[str, ...] = ("ct",)

    def __post_init__(self) -> None:
        check_settings(self.modality, self.normalise)
        _ = self.grid, self.slicing  # which check the others

    @property
    def grid(self) -> ScanGrid:
        """The voxels that nets work on."""
        return ScanGrid(self.spacing, self.shape)

    @property
    def slicing(self) -> Slicing:
        """How the grid becomes images."""
        return Slicing(self.direction, self.neighbours)

    def find(self, source: Path) -> tuple[ScanSource, ...]:
        """Find the scans in a file, a patient's folder, or a folder of patients, files or series.

        Raises:
            DataError: there is none, or a patient has two, or not all channels.
        """
        if not source.is_dir():
            if source.is_file():
                return (source,)
            raise DataError(f"There is no {source}; expected a scan or a folder.")
        image, folders = self._image(source), sub_folders(source)
        if image is not None:
            return (image,)  # a patient's folder: what lies beside it is no scan
        patients = {folder: ct for folder in folders if (ct := self._image(folder))}
        files = [path for path in _files(source) if suffix_of(path) and path.name[0] not in "._"]
        if patients or files:
            others = [folder for folder in folders if folder not in patients and _files(folder)]
            others += files if patients else []
            _check_one_kind(source, next(iter(patients or files)), others)
            return tuple(patients.values() or files)
        if any(path.name[0] != "." for path in _files(source)):
            return (source,)  # the files of a series may have any name; reading them will tell
        if folders:
            return tuple(folders)
        raise DataError(
            f"{source} holds no scan; expected files (NIfTI, MHA, NRRD), a DICOM series, or "
            f"folders of patients with {self.images[0]}.nii.gz, {self.images[0]}.nii or a folder "
            f"{self.images[0]}."
        )

    def read(self, path: ScanSource) -> SlicedScan:
        """Read one scan, or one whose channels lie in several files.

        Raises:
            DataError: the file or series cannot be used; names it.
        """
        paths = (path,) if isinstance(path, Path) else path
        scan = _last_read(paths, stamps(*paths))
        check_modality(scan, self.modality)
        name = self._name(paths[0])
        return SlicedScan(name, scan, self.grid, self.slicing, self.normalise, self.target)

    def _image(self, folder: Path) -> ScanSource | None:
        """Return the scan of a patient's folder, or None if it is another kind of folder."""
        names = [name.replace("{patient}", folder.name) for name in self.images]
        channels = [_images(folder, name) for name in names]
        for name, images in zip(names, channels, strict=True):
            if len(images) > 1:
                files = " and ".join(path.name for path in images)
                raise DataError(f"{folder} has more than one scan: {files}; name one of them.")
            if not images and any(channels):
                raise DataError(f"{folder} has no {name}, one of the channels {names}; add it.")
        paths = tuple(path for images in channels for path in images)
        return paths[0] if len(paths) == 1 else paths or None

    def _name(self, path: Path) -> str:
        """Name a scan by its file, or by its patient's folder if every scan is called `image`."""
        absolute = split_npz(path)[0].absolute()
        folder, stem = absolute.parent.name, without_suffix(absolute.name)
        names = [name.replace("{patient}", folder) for name in self.images]
        return folder if stem in names else stem


def _images(folder: Path, name: str) -> list[Path]:
    """List every scan of that name in one patient's folder: files, or the folder of a series."""
    files = [path for suffix in READERS if (path := folder / f"{name}{suffix}").is_file()]
    return [*files, folder / name] if (folder / name).is_dir() else files


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _check_one_kind(source: Path, scan: Path, others: list[Path]) -> None:
    if others:
        raise DataError(
            f"{source} holds scans of several kinds, so which are meant is not clear: {scan} "
            f"beside {others[0]}. Put each kind into a folder of its own."
        )


@functools.lru_cache(maxsize=1)  # each direction asks for the same scan
def _last_read(paths: tuple[Path, ...], _: tuple[FileStamp, ...]) -> ScanVolume:
    return read_channels(paths)
