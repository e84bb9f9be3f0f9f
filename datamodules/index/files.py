"""Files that an index names: where they lie, and what their names end in."""

import os.path
import re
from pathlib import Path

from lightning_fl.errors import ConfigError, DataError

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp")
VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
ARRAYS = (".npy", ".npz")
SEGMENTATION = ".dcm"
"""Of a mask that is a DICOM segmentation."""
SUFFIXES = (*PICTURES, *VOLUMES, *ARRAYS, SEGMENTATION)
"""Of the files that some reader reads."""


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of an image."""
    suffix = next(filter(name.lower().endswith, SUFFIXES), "")
    return name[: len(name) - len(suffix)]


def split_npz(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return a file, and what it names inside an .npz file: `a.npz/image/3` has ("image", "3")."""
    file, suffix, inside = str(path).partition(".npz/")
    return (Path(file + ".npz"), tuple(inside.split("/"))) if suffix else (path, ())


def find_file(root: Path, name: str, place: str) -> Path:
    """Return the file, or the folder of a series, that a text names below a root.

    The suffix may be left out.

    Raises:
        DataError: there is none, or it lies outside the root; names the place.
    """
    folder = os.path.abspath(root)  # not `resolve`: links to other disks are common  # noqa: PTH100
    path = Path(os.path.abspath(root / name.replace("\\", "/")))  # noqa: PTH100
    if not path.is_relative_to(folder):
        raise DataError(
            f"{place}: {name!r} lies outside of {root}. Move the file there, or set `root` to a "
            "folder that holds all files."
        )
    if split_npz(path)[0].exists():
        return path
    for suffix in SUFFIXES:
        if (longer := path.with_name(path.name + suffix)).exists():
            return longer
    raise DataError(f"{place}: there is no file {path}. Add it, or correct or remove the entry.")


def patient_of(name: str, rule: str, place: str) -> str:
    """Return the patient whom the name of a file tells.

    Args:
        name: of the file, or its path.
        rule: "file" for the name without suffix, or a regular expression with one group.
        place: of the name, for errors.

    Raises:
        ConfigError: the rule is no such expression.
        DataError: it does not match.
    """
    if rule == "file":
        return without_suffix(Path(name).name)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"`patient` is {rule!r}, no regular expression: {error}.") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"`patient` is {rule!r} with {pattern.groups} groups; expected 'manifest', 'file' or a "
            "regular expression with one group, the patient, e.g. '^(P[0-9]+)_'."
        )
    match = pattern.search(name)
    if match is None or not match[1]:
        raise DataError(f"`patient` {rule!r} finds no patient in the name of {place}.")
    return match[1]
