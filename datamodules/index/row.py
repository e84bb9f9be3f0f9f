"""One image, or one scan, of a patient, and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """Say what belongs to one image.

    Attributes:
        site: hospital.
        patient: identifier, which need not be unique among hospitals.
        images: files whose channels are put together in this order. One file with several channels
            is one path. `x.npz/key` is an array of an .npz file, `x.npz/key/3` its element 3.
        mask: file of the mask, if any.
        labels: numbers by name; NaN is a missing one.
        part: "train", "val" or "test", as the data give it.
        fold: in which the patient is tested, as the data give it.
        place: of the row in its file, for errors.
        others: further cells of a table's row, by column.
    """

    site: str
    patient: str
    images: tuple[Path, ...]
    mask: Path | None
    labels: Mapping[str, float]
    part: str | None
    fold: int | None
    place: str
    others: Mapping[str, str] = field(default_factory=dict)
