"""Scans in memory, whichever format they come in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813  (as its own examples do)

from datamodules.index.files import split_npz
from datamodules.readers.arrays import IMAGE_KEYS, read_array
from datamodules.readers.dicom import LPS_TO_RAS, open_series
from datamodules.readers.nifti import read_nifti
from datamodules.readers.space import (
    Affine,
    Orientation,
    check_affine,
    edges,
    fit_onto,
    inverse,
    orientation_to_ras,
    reorder,
    turn,
)
from lightning_fl.errors import DataError

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class ScanVolume:
    """Hold a scan in memory, its axes turned to RAS+.

    The first axis goes from the patient's left to the right, the second from back to front, the
    third from feet to head. An oblique scan is turned to the nearest such order and not resampled:
    its axes stay those of its voxels.

    Attributes:
        values: (C, X, Y, Z) in RAS+, in the smallest of the file's type, int16, uint16 and float32
            that holds them.
        spacing: edges of a voxel in mm along X, Y and Z.
        affine: from voxels of the file's array to RAS+ mm, nibabel's convention; so for DICOM too,
            whose array is (columns, rows, slices).
        shape: of the file's array, without channels.
        orientation: nibabel's transform from the file's array to RAS+.
        source: file, or folder of a DICOM series.
        modality: what a DICOM header says, e.g. "CT" or "MR"; None in other formats.
    """

    values: npt.NDArray[Any]
    spacing: tuple[float, float, float]
    affine: Affine
    shape: tuple[int, int, int]
    orientation: Orientation
    source: Path
    modality: str | None

    def from_ras(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """View an array (..., X, Y, Z) in the order of the file."""
        return turn(array, inverse(self.orientation))

    def to_ras(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """View an array (..., i, j, k) in the order of the file as (..., X, Y, Z) in RAS+."""
        return turn(array, self.orientation)

    @property
    def file_spacing(self) -> tuple[float, float, float]:
        """Edges of a voxel in mm along the axes of the file's array."""
        x, y, z = edges(self.affine).tolist()
        return x, y, z


def read_volume(path: Path, keys: tuple[str, ...] = IMAGE_KEYS) -> ScanVolume:
    """Read a scan: NIfTI, MetaImage, NRRD, NumPy, or the folder of one DICOM series.

    A fourth axis becomes the channels. A NumPy array is (X, Y, Z) or (C, X, Y, Z) and has voxels of
    1 mm. Little more than the float32 size of the scan is in memory, and twice that at most.

    Args:
        path: file or folder; `x.npz/key` is an array of an .npz file.
        keys: names of the array to take from an .npz file where the path has none.

    Raises:
        DataError: the file or series cannot be used; names it.
    """
    if path.is_dir():
        series = open_series(path)
        array, affine, modality = series.read(), series.affine, series.modality
    else:
        (array, affine), modality = _reader(path)(path, keys), None
    check_affine(affine, path)
    orientation = orientation_to_ras(affine)
    i, j, k = array.shape[1:]
    x, y, z = edges(affine).tolist()
    return ScanVolume(
        values=turn(smallest(array), orientation),
        spacing=reorder((x, y, z), orientation),
        affine=affine,
        shape=(i, j, k),
        orientation=orientation,
        source=path,
        modality=modality,
    )


def read_channels(paths: Sequence[Path]) -> ScanVolume:
    """Read a scan whose channels lie in several files, in this order.

    Raises:
        DataError: a file cannot be used, or lies elsewhere than the first; names it.
    """
    first, *others = (read_volume(path) for path in paths)
    if not others:
        return first
    channels = [first.values]
    for other in others:
        onto = fit_onto(other, first, "Channel")
        channels.append(first.to_ras(turn(other.from_ras(other.values), onto)))
    return replace(first, values=np.concatenate(channels))


def smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers in int16 or uint16 where these hold them, and others unchanged."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return values
    low, high = values.min(), values.max()
    for dtype in (np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max and _whole(values):  # never true of NaN
            return values.astype(dtype)
    return values


def _whole(values: npt.NDArray[Any]) -> bool:
    # Slice by slice: the first that has fractions ends it, and memory stays small.
    planes = np.moveaxis(values, -1, 0)
    return values.dtype.kind in "iu" or all(np.array_equal(p, np.rint(p)) for p in planes)


def _read_itk(path: Path, _: tuple[str, ...]) -> tuple[npt.NDArray[Any], Affine]:
    """Read a MetaImage or NRRD file by SimpleITK: values (C, i, j, k) and the affine."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        dimensions, vector = reader.GetDimension(), reader.GetNumberOfComponents() > 1
        pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if "complex" in pixel or dimensions not in ((3,) if vector else (3, 4)):
            raise DataError(
                f"{path} holds {pixel} in {dimensions} dimensions; expected real numbers in three, "
                "or in four with the channels last. Store one volume in a file."
            )
        if "64-bit" in pixel:  # twice the memory for nothing
            reader.SetOutputPixelType(sitk.sitkVectorFloat32 if vector else sitk.sitkFloat32)
        image = reader.Execute()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"Cannot read {path} ({reason}); it may be cut off or damaged. Export it anew."
        ) from error
    array = sitk.GetArrayFromImage(image).T  # (i, j, k), (c, i, j, k) or (i, j, k, c)
    if dimensions == 4:
        array = np.moveaxis(array, -1, 0)
    affine = np.eye(4)
    directions = np.reshape(image.GetDirection(), (dimensions, dimensions))
    affine[:3, :3] = directions[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return array if array.ndim == 4 else array[None], LPS_TO_RAS @ affine


def _read_numpy(path: Path, keys: tuple[str, ...]) -> tuple[npt.NDArray[Any], Affine]:
    """Read an array (X, Y, Z) or (C, X, Y, Z) of a .npy or .npz file."""
    array = read_array(path, keys)
    if array.ndim not in (3, 4) or array.size == 0 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected numbers (X, Y, Z) "
            "or (channels, X, Y, Z)."
        )
    kind = array.dtype.kind
    if kind == "b" or array.dtype.itemsize > 4:
        array = array.astype(np.uint8 if kind == "b" else np.float32)
    return array if array.ndim == 4 else array[None], np.eye(4)


Reader = Callable[[Path, tuple[str, ...]], tuple[npt.NDArray[Any], Affine]]

READERS: dict[str, Reader] = {
    **dict.fromkeys((".nii.gz", ".nii"), lambda path, _: read_nifti(path)),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), _read_itk),
    **dict.fromkeys((".npy", ".npz"), _read_numpy),
}
"""What reads a file, by its suffix."""


def suffix_of(path: Path) -> str:
    """Return a volume file's suffix, e.g. ".nii.gz", or "" for a name of anything else."""
    name = split_npz(path)[0].name.lower()
    return next((suffix for suffix in READERS if name.endswith(suffix)), "")


def _reader(path: Path) -> Reader:
    expected = f"a file ending in {', '.join(READERS)} or the folder of a DICOM series"
    if not split_npz(path)[0].exists():
        raise DataError(f"There is no {path}; expected {expected}.")
    if not suffix_of(path):
        raise DataError(f"Cannot tell what {path} is; expected {expected}.")
    return READERS[suffix_of(path)]
