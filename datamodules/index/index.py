"""What every index has, and the checks that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from datamodules.index.row import Row
from lightning_fl.errors import DataError

PART_NAMES = {
    "train": "train", "training": "train", "tr": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "ts": "test",
}  # fmt: skip
"""What data sets call the parts."""


class Index(ABC):
    """List the images of a data set without opening them."""

    @abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """Return a row for each image, in an order that never changes.

        Raises:
            ConfigError: a setting cannot work.
            DataError: files are missing or contradict each other; names file, line and remedy.
        """


def part_name(text: str, place: str) -> str | None:
    """Return "train", "val" or "test" for a word that means it, and None for an empty text."""
    if text and text.lower() not in PART_NAMES:
        raise DataError(
            f"{place}: the split is {text!r}; expected train, val or test, or nothing to have it "
            "drawn."
        )
    return PART_NAMES[text.lower()] if text else None


def fold_number(text: str, place: str) -> int | None:
    """Return the number of a fold, and None for an empty text."""
    if text and not (text.isascii() and text.isdigit()):
        raise DataError(f"{place}: the fold is {text!r}; expected a whole number, 0 or more.")
    return int(text) if text else None


def class_number(text: str, classes: Sequence[str], place: str) -> float:
    """Return the label that a text means: its place in `classes`, or the number it is.

    An empty text is NaN, a missing label.
    """
    if not text:
        return float("nan")
    if classes:
        if text not in classes:
            raise DataError(
                f"{place}: the label is {text!r}, but `classes` are {list(classes)}. Correct the "
                "label, or add it to `classes`."
            )
        return float(classes.index(text))
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{place}: the label {text!r} is no number. List the names of all labels in `classes`; "
            "their order gives the class numbers."
        ) from error


def checked(rows: Iterable[Row], *, local_patients: bool) -> tuple[Row, ...]:
    """Return the rows, or refuse an image that is listed twice or a patient that is torn apart.

    Args:
        rows: of all hospitals.
        local_patients: whether patients of two hospitals may have one name.

    Raises:
        DataError: names both places.
    """
    images: dict[object, Row] = {}
    patients: dict[object, Row] = {}
    result = tuple(rows)
    for row in result:
        twin = images.setdefault(row.images, row)
        if twin is not row:
            raise DataError(f"{row.place}: {row.images[0]} is in {twin.place}, too; remove one.")
        first = patients.setdefault((row.site if local_patients else "", row.patient), row)
        for what in ("site", "part", "fold"):
            before, now = getattr(first, what), getattr(row, what)
            if before != now:
                raise DataError(
                    f"{row.place}: patient {row.patient!r} has {what} {now!r}, but {before!r} in "
                    f"{first.place}. A patient belongs to one {what}: correct the {what}, or give "
                    "two persons two names."
                )
    return result
