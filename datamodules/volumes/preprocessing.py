"""How files of scans become what a net sees, as settings that a run stores for prediction."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from datamodules.normalisation import Normalisation, Window
from datamodules.readers.volume import ScanVolume, read_channels, suffix_of
from datamodules.site_folders import sub_folders
from datamodules.volume_cache import FileStamp, stamps
from datamodules.volumes.ct_patients import find_images
from datamodules.volumes.grid import ScanGrid, Shape, Spacing
from datamodules.volumes.modality import Modality, check_modality, check_settings
from datamodules.volumes.sliced_scan import SlicedScan
from datamodules.volumes.slices import Slicing
from lightning_fl.data.scans import Preprocessing, ScanSource
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class VolumePreprocessing(Preprocessing):
    """Hold the settings of the grid, the slices and the normalisation.

    Attributes:
        spacing: see `ScanGrid`.
        shape: see `ScanGrid`.
        direction: see `Slicing`.
        neighbours: see `Slicing`.
        classes: 1 for masks of 0 and one other number; otherwise the number of classes, background
            included.
        modality: of all scans, or None.
        normalise: how values become shades, or what `to_settings` made of it.
        image: what a patient's scan is called in a folder of patients, without suffix.

    Raises:
        ConfigError: a setting is out of range or unknown.
    """

    spacing: Spacing = (2.0, 2.0, 2.0)
    shape: Shape = (160, 160, 160)
    direction: str = "axial"
    neighbours: int = 3
    classes: int = 1
    modality: Modality = "CT"
    normalise: Normalisation = field(default_factory=Window)
    image: str = "ct"

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= 256:
            raise ConfigError(
                f"Expected `classes` to be between 1 and 256, but got {self.classes}."
            )
        if isinstance(self.normalise, Mapping):
            object.__setattr__(self, "normalise", _built(self.normalise))
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

    def to_settings(self) -> dict[str, Any]:
        """Return plain values for a YAML file."""
        settings = super().to_settings()
        kind, values = type(self.normalise), settings["init_args"]["normalise"]
        settings["init_args"]["normalise"] = {
            "class_path": f"{kind.__module__}.{kind.__qualname__}",
            "init_args": {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
        }
        return settings

    def find(self, source: Path) -> tuple[Path, ...]:
        """Find the scans in a file, a patient's folder, or a folder of patients, files or series.

        Raises:
            DataError: there is none, or a patient has two.
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
            f"folders of patients with {self.image}.nii.gz, {self.image}.nii or a folder "
            f"{self.image}."
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
        return SlicedScan(name, scan, self.grid, self.slicing, self.normalise, self.classes)

    def _image(self, folder: Path) -> Path | None:
        """Return the scan of a patient's folder, or None if it is another kind of folder."""
        images = find_images(folder, self.image)
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            raise DataError(f"{folder} has more than one scan: {names}; name one of them.")
        return images[0] if images else None

    def _name(self, path: Path) -> str:
        """Name a scan by its file, or by its patient's folder if every scan is called `image`."""
        absolute = path.absolute()
        name = absolute.name
        stem = name[: len(name) - len(suffix_of(absolute))]
        return absolute.parent.name if stem == self.image else stem


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _check_one_kind(source: Path, scan: Path, others: list[Path]) -> None:
    if others:
        raise DataError(
            f"{source} holds scans of several kinds, so which are meant is not clear: {scan} "
            f"beside {others[0]}. Put each kind into a folder of its own."
        )


def _built(settings: Mapping[str, Any]) -> Normalisation:
    """Build the normalisation that `to_settings` described."""
    module, _, name = str(settings.get("class_path")).rpartition(".")
    kind = getattr(import_module(module), name, None) if module else None
    if not (isinstance(kind, type) and issubclass(kind, Normalisation)):
        raise ConfigError(f"Expected a Normalisation, but got {settings!r}.")
    values = settings.get("init_args", {})
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@functools.lru_cache(maxsize=1)  # each direction asks for the same scan
def _last_read(paths: tuple[Path, ...], _: tuple[FileStamp, ...]) -> ScanVolume:
    return read_channels(paths)
