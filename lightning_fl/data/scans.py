"""Whole scans: what evaluation in three dimensions and prediction on new files have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fl.errors import ConfigError

Mask = npt.NDArray[np.uint8]
"""Class numbers of every voxel of a scan, in the order and orientation of its own file."""


@dataclass(frozen=True)
class ScanFiles:
    """Where one scan of a data module lies.

    Attributes:
        name: of the patient, or of the scan where a patient has several.
        image: file, or folder of a DICOM series.
        mask: file of the truth.
    """

    name: str
    image: Path
    mask: Path


class Scan(ABC):
    """One scan as a net sees it.

    Attributes:
        name: what its results are called by, e.g. the file's name without suffix.
    """

    name: str

    @abstractmethod
    def images(self) -> Dataset[Tensor]:
        """Everything the net is shown of it in a fixed order, float32 (C, H, W) or (C, D, H, W)."""


class Volume(Scan):
    """A scan whose every voxel gets a class.

    The net works on a grid of its own (X, Y, Z), the same for every direction of slicing, so that
    probabilities of several nets can be averaged there before they become one mask.

    Attributes:
        spacing: edges of the scan's own voxels in mm, along the axes of its masks.
    """

    spacing: tuple[float, float, float]

    @abstractmethod
    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        """Put the probabilities of `images` together on the grid.

        Args:
            batches: (N, classes, H, W) each, in the order of `images`; sizes may differ.

        Returns:
            float32 (classes, X, Y, Z).
        """

    @abstractmethod
    def mask(self, grid: Tensor, threshold: float) -> Mask:
        """The classes of the scan's own voxels; background where the grid does not reach.

        Args:
            grid: probabilities (classes, X, Y, Z).
            threshold: of foreground where there is one class; several are compared.
        """

    @abstractmethod
    def read_mask(self, path: Path) -> Mask:
        """Read a truth that belongs to this scan.

        Raises:
            DataError: it lies elsewhere in space or has other classes; names the file.
        """

    @abstractmethod
    def axial(self, mask: Mask) -> Mask:
        """A mask as axial slices (Z, H, W) as they are read: front up, the patient's right left."""

    @abstractmethod
    def picture(self, level: int) -> Tensor:
        """Axial slice `level` of the scan in shades from 0 to 1, float32 (1, H, W)."""

    @abstractmethod
    def save(self, mask: Mask, path: Path) -> None:
        """Write a mask as NIfTI (.nii or .nii.gz) in the scan's own space."""


@dataclass(frozen=True)
class Preprocessing(ABC):
    """How a scan becomes what a net sees: the same in training, evaluation and prediction.

    Subclasses are frozen dataclasses of plain values (numbers, texts, tuples), so that a run can
    store them and a prediction years later reads files as the run did.
    """

    @abstractmethod
    def find(self, source: Path) -> tuple[Path, ...]:
        """The scans that a file or folder holds, each to be given to `read`.

        Raises:
            DataError: there is none.
        """

    @abstractmethod
    def read(self, path: Path) -> Scan:
        """Read one scan.

        Raises:
            DataError: the file cannot be used; names it.
        """

    def to_settings(self) -> dict[str, Any]:
        """As plain values for a YAML file."""
        kind = type(self)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": plain}


def from_settings(settings: dict[str, Any]) -> Preprocessing:
    """Back from `Preprocessing.to_settings`.

    Raises:
        ConfigError: they name nothing that is a Preprocessing here.
    """
    module, _, name = str(settings.get("class_path")).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Cannot find the preprocessing {settings!r}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Preprocessing)):
        raise ConfigError(f"Expected a Preprocessing, but {settings['class_path']} is none.")
    values = settings["init_args"]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
