"""Scans, for evaluation in three dimensions and for prediction on new files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.errors import ConfigError

Mask = npt.NDArray[np.uint8]
"""Class numbers of every voxel of a scan, in the order and orientation of its own file.

Masks of overlapping regions have an axis of regions before those of space, and hold 0 and 1.
"""


ScanSource = Path | tuple[Path, ...]
"""A file, the folder of a DICOM series, or one of these for each channel."""


@dataclass(frozen=True)
class ScanFiles:
    """Say where one scan of a data module lies.

    Attributes:
        name: of the patient, or of the scan where a patient has several.
        image: of the scan.
        mask: file of the truth.
    """

    name: str
    image: ScanSource
    mask: Path


class Scan(ABC):
    """Show one scan as a net sees it.

    Attributes:
        name: the name of its results, e.g. the file's name without suffix.
    """

    name: str

    @abstractmethod
    def images(self) -> Dataset[Tensor]:
        """Return what the net is shown, in a fixed order: float32 (C, H, W) or (C, D, H, W)."""


@dataclass(frozen=True)
class Picture(Scan):
    """Show an image of two dimensions as a net sees it.

    Attributes:
        name: of the file, without suffix.
        image: float32 (C, H, W).
        size: height and width of the file's own pixels.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".png",)
    """Of the masks that it writes."""
    name: str
    image: Tensor = field(repr=False)
    size: tuple[int, int]

    def images(self) -> Dataset[Tensor]:
        """Return the image alone."""
        return [self.image]  # type: ignore[return-value]  # a list is a dataset to torch

    def save(self, mask: Mask, path: Path) -> None:
        """Write a mask (H, W) as PNG with class numbers, on the file's own pixels."""
        Image.fromarray(mask).save(path)


class Volume(Scan):
    """Show a scan whose every voxel gets a class.

    The net works on a grid of its own (X, Y, Z), which is equal for every direction of slicing. So
    probabilities of several nets can be averaged there before they become one mask.

    Attributes:
        spacing: edges of the scan's own voxels in mm, along the axes of its masks.
        suffixes: of the masks that it writes; the first is for masks in a folder.
    """

    suffixes: tuple[str, ...] = (".nii.gz", ".nii")
    spacing: tuple[float, float, float]

    @abstractmethod
    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        """Put probabilities together on the grid: float32 (classes, X, Y, Z).

        The batches are (N, classes, H, W), in the order of `images`; their sizes N may differ.
        """

    @abstractmethod
    def mask(self, grid: Tensor, threshold: float) -> Mask:
        """Return the classes of the scan's own voxels; background where the grid does not reach.

        The grid has probabilities. Foreground is above the threshold where there is one class;
        several classes are compared.
        """

    @abstractmethod
    def read_mask(self, path: Path) -> Mask:
        """Read a truth that belongs to this scan.

        Raises:
            DataError: it lies elsewhere in space or has other classes; names the file.
        """

    @abstractmethod
    def axial(self, mask: Mask) -> Mask:
        """Return a mask as axial slices (Z, H, W): front up, the patient's right on the left."""

    @abstractmethod
    def picture(self, level: int) -> Tensor:
        """Return axial slice `level` of the scan in shades from 0 to 1, float32 (1, H, W)."""

    @abstractmethod
    def save(self, mask: Mask, path: Path) -> None:
        """Write a mask in the scan's own space, in the format that the suffix names."""


@dataclass(frozen=True)
class Preprocessing(ABC):
    """Turn a scan into what a net sees, in training, evaluation and prediction alike.

    Subclasses are frozen dataclasses of plain values (numbers, texts, tuples). So a run can store
    them, and a prediction years later reads files as the run did.
    """

    @abstractmethod
    def find(self, source: Path) -> tuple[ScanSource, ...]:
        """Find the scans that a file or folder holds, each to be given to `read`.

        Raises:
            DataError: there is none.
        """

    @abstractmethod
    def read(self, path: ScanSource) -> Scan:
        """Read one scan.

        Raises:
            DataError: the file cannot be used; names it.
        """

    def class_names(self) -> tuple[str, ...]:
        """Return what classes or labels are called; () for numbers."""
        return ()

    def to_settings(self) -> dict[str, Any]:
        """Return plain values for a YAML file."""
        settings: dict[str, Any] = _plain(self)
        return settings


def from_settings(settings: dict[str, Any]) -> Preprocessing:
    """Build the preprocessing from what `Preprocessing.to_settings` returned.

    Raises:
        ConfigError: they name nothing that is a Preprocessing here.
    """
    built = _built(settings)
    if not isinstance(built, Preprocessing):
        raise ConfigError(f"Expected a Preprocessing, but {settings} is none.")
    return built


def _plain(value: Any) -> Any:
    """Return values for a YAML file: a dataclass becomes its path and its fields."""
    if is_dataclass(value):
        kind = type(value)
        values = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": values}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _built(plain: Any) -> Any:
    """Return what `_plain` has made plain; lists become tuples.

    Nothing but a dataclass is built, so that a file cannot name a function to call.
    """
    if isinstance(plain, list):
        return tuple(_built(entry) for entry in plain)
    if not isinstance(plain, dict):
        return plain
    values = {key: _built(entry) for key, entry in plain.items()}
    if "class_path" not in values:
        return values
    module, _, name = str(values["class_path"]).rpartition(".")
    try:
        kind: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Cannot find the preprocessing {plain!r}: {error}") from error
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ConfigError(f"Expected a Preprocessing, but {values['class_path']} is none.")
    return kind(**values.get("init_args", {}))
