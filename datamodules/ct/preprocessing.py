"""How CT files become what a net sees, as settings that a run stores for later prediction."""

import functools
from dataclasses import dataclass
from pathlib import Path

from datamodules.ct.grid import Grid, Shape, Spacing
from datamodules.ct.index import find_images, sub_folders
from datamodules.ct.nifti import SUFFIXES, is_nifti
from datamodules.ct.scan import CTScan
from datamodules.ct.slices import Slicing
from datamodules.ct.volume import CTVolume, read_ct
from datamodules.volume_cache import FileStamp, stamps
from lightning_fl.data.scans import Preprocessing
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class CTPreprocessing(Preprocessing):
    """Settings of the grid, the window and the slices.

    Attributes:
        spacing: see `Grid`.
        shape: see `Grid`.
        level: see `Slicing`.
        width: see `Slicing`.
        direction: see `Slicing`.
        neighbours: see `Slicing`.
        classes: 1 for masks of 0 and one other number; otherwise the number of classes, background
            included.
        image: what a patient's CT is called, without suffix.

    Raises:
        ConfigError: a setting is out of range or unknown.
    """

    spacing: Spacing = (2.0, 2.0, 2.0)
    shape: Shape = (160, 160, 160)
    level: float = -600.0
    width: float = 1500.0
    direction: str = "axial"
    neighbours: int = 3
    classes: int = 1
    image: str = "ct"

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= 256:
            raise ConfigError(
                f"Expected `classes` to be between 1 and 256, but got {self.classes}."
            )
        _ = self.grid, self.slicing  # which check the others

    @property
    def grid(self) -> Grid:
        """The voxels that nets work on."""
        return Grid(self.spacing, self.shape)

    @property
    def slicing(self) -> Slicing:
        """How the grid becomes images."""
        return Slicing(self.direction, self.neighbours, self.level, self.width)

    def find(self, source: Path) -> tuple[Path, ...]:
        """The CTs in a file, a patient's folder, a folder of patients, of NIfTI files or of series.

        Raises:
            DataError: there is none, or a patient has two.
        """
        if not source.is_dir():
            if source.is_file():
                return (source,)
            raise DataError(f"There is no {source}; expected a CT scan or a folder.")
        own, folders = self._image(source), sub_folders(source)
        if own is not None:
            return (own,)  # a patient's folder: what lies beside the CT is no scan
        patients = {folder: image for folder in folders if (image := self._image(folder))}
        files = [path for path in sorted(source.iterdir()) if _is_scan(path)]
        if patients or files:
            left = [folder for folder in folders if folder not in patients and _has_files(folder)]
            left += files if patients else []
            if left:
                raise DataError(
                    f"{source} holds scans of several kinds, so which are meant is not clear: "
                    f"{next(iter(patients or files))} beside {left[0]}. Put each kind into a "
                    "folder of its own."
                )
            return tuple(patients.values() or files)
        if any(path.is_file() and path.name[0] != "." for path in source.iterdir()):
            return (source,)  # the files of a series may have any name; reading them will tell
        if folders:
            return tuple(folders)
        raise DataError(
            f"{source} holds no CT scan; expected NIfTI files, a DICOM series, or folders of "
            f"patients with {self.image}.nii.gz, {self.image}.nii or a folder {self.image}."
        )

    def read(self, path: Path) -> CTScan:
        """Read one scan.

        Raises:
            DataError: the file or series cannot be used; names it.
        """
        ct = _last_read(path, stamps(path))
        return CTScan(self._name(path), ct, self.grid, self.slicing, self.classes)

    def _image(self, folder: Path) -> Path | None:
        """The CT of a patient's folder, or None if it is another kind of folder."""
        images = find_images(folder, self.image)
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            raise DataError(f"{folder} has more than one CT: {names}; name one of them.")
        return images[0] if images else None

    def _name(self, path: Path) -> str:
        """The patient's folder if the scan is named as every patient's, or else its own name."""
        absolute = path.absolute()
        name = absolute.name
        suffix = next((s for s in reversed(SUFFIXES) if name.lower().endswith(s)), "")
        stem = name[: len(name) - len(suffix)]
        return absolute.parent.name if stem == self.image else stem


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


@functools.lru_cache(maxsize=1)  # each direction asks for the same scan
def _last_read(path: Path, _: tuple[FileStamp, ...]) -> CTVolume:
    return read_ct(path)


def _is_scan(path: Path) -> bool:
    return path.is_file() and is_nifti(path) and path.name[0] not in "._"
