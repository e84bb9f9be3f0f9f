"""How CT files become what a net sees, as settings that a run stores for later prediction."""

import functools
from dataclasses import dataclass
from pathlib import Path

from datamodules.ct.grid import ScanGrid, Shape, Spacing
from datamodules.ct.index import find_images
from datamodules.ct.nifti import SUFFIXES, is_nifti
from datamodules.ct.scan import CTScan
from datamodules.ct.slices import Slicing
from datamodules.ct.volume import CTVolume, read_ct
from datamodules.site_folders import sub_folders
from datamodules.volume_cache import FileStamp, stamps
from lightning_fl.data.scans import Preprocessing
from lightning_fl.errors import ConfigError, DataError


@dataclass(frozen=True)
class CTPreprocessing(Preprocessing):
    """Settings of the grid, the window and the slices.

    Attributes:
        spacing: see `ScanGrid`.
        shape: see `ScanGrid`.
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
    def grid(self) -> ScanGrid:
        """The voxels that nets work on."""
        return ScanGrid(self.spacing, self.shape)

    @property
    def slicing(self) -> Slicing:
        """How the grid becomes images."""
        return Slicing(self.direction, self.neighbours, self.level, self.width)

    def find(self, source: Path) -> tuple[Path, ...]:
        """Find the CTs in a file, a patient's folder, or a folder of patients, files or series.

        Raises:
            DataError: there is none, or a patient has two.
        """
        if not source.is_dir():
            if source.is_file():
                return (source,)
            raise DataError(f"There is no {source}; expected a CT scan or a folder.")
        image, folders = self._image(source), sub_folders(source)
        if image is not None:
            return (image,)  # a patient's folder: what lies beside the CT is no scan
        patients = {folder: ct for folder in folders if (ct := self._image(folder))}
        files = [path for path in _files(source) if is_nifti(path) and path.name[0] not in "._"]
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
        """Return the CT of a patient's folder, or None if it is another kind of folder."""
        images = find_images(folder, self.image)
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            raise DataError(f"{folder} has more than one CT: {names}; name one of them.")
        return images[0] if images else None

    def _name(self, path: Path) -> str:
        """Name a scan by its file, or by its patient's folder if every CT is called `image`."""
        absolute = path.absolute()
        name = absolute.name
        suffix = next((s for s in reversed(SUFFIXES) if name.lower().endswith(s)), "")
        stem = name[: len(name) - len(suffix)]
        return absolute.parent.name if stem == self.image else stem


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _check_one_kind(source: Path, scan: Path, others: list[Path]) -> None:
    if others:
        raise DataError(
            f"{source} holds scans of several kinds, so which are meant is not clear: {scan} "
            f"beside {others[0]}. Put each kind into a folder of its own."
        )


@functools.lru_cache(maxsize=1)  # each direction asks for the same scan
def _last_read(path: Path, _: tuple[FileStamp, ...]) -> CTVolume:
    return read_ct(path)
