import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules import RadChestCT

Row = dict[str, str]


def row(number: int, client: str, /, **changes: str) -> Row:
    """What the table says of a volume, a column that must not matter included."""
    name = f"trn{number:05d}"
    return {
        "VolumeAcc_DEID": f"{name}.npz",
        "NoteAcc_DEID": name,
        "MRN_DEID": f"mrn{number:04d}",
        "SliceThickness": "0.625",
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "PatientAge": "064Y",
        "binary_infection_to_lung_ratio": str(number % 2),
        "client": client,
        **changes,
    }


def write_table(root: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def volume(number: int, shape: tuple[int, int, int] = (20, 24, 18)) -> npt.NDArray[np.int16]:
    """HU between air and bone, different for every number."""
    return np.random.default_rng(number).integers(-1000, 900, shape).astype(np.int16)


def save(path: Path, **arrays: npt.NDArray[Any]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's own flag is a bool
    return path


def rad(root: Path, **settings: Any) -> RadChestCT:
    small: dict[str, Any] = {"size": 10, "cache_dir": str(root / "cache")}
    return RadChestCT(root, **(small | settings))
