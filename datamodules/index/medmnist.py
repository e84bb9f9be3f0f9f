"""MedMNIST: images and labels of a whole data set in one .npz file."""

from pathlib import Path

import numpy as np

from datamodules.index.index import Index
from datamodules.index.row import Row
from lightning_fl.errors import ConfigError, DataError


class MedMnist(Index):
    """Read a file of MedMNIST, whose split into train, val and test is kept.

    Each image is a patient of its own, as the file says nothing of patients. All of them are of one
    hospital; `partition` makes several of it. The label is "label"; several labels are "0", "1",
    ...

    Args:
        path: the file, e.g. pneumoniamnist.npz.
        site: name of the hospital; null is the file's name without suffix.
    """

    def __init__(self, path: str | Path, *, site: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self.site = site or self.path.stem

    def rows(self) -> tuple[Row, ...]:
        """Return the rows part by part; only the labels are read."""
        if not self.path.is_file():
            raise ConfigError(f"There is no file {self.path} (looked in {Path.cwd()}).")
        rows: list[Row] = []
        try:
            with np.load(self.path) as arrays:
                for part in ("train", "val", "test"):
                    rows += self._part(part, arrays[f"{part}_labels"])
        except (ValueError, OSError, KeyError, EOFError) as error:
            raise DataError(
                f"{self.path} is no file of MedMNIST ({error}). Expected an .npz file with "
                "train_images, train_labels and the same of val and test; download it again."
            ) from error
        return tuple(rows)

    def _part(self, part: str, labels: "np.typing.NDArray[np.integer]") -> list[Row]:
        table = labels.reshape(len(labels), -1).astype(float).tolist()
        folder = self.path / f"{part}_images"
        return [
            Row(
                self.site,
                f"{part}_{number}",
                (folder / str(number),),
                None,
                {"label": numbers[0]}
                if len(numbers) == 1
                else {str(name): number for name, number in enumerate(numbers)},
                part,
                None,
                f"{self.path}, {part} {number}",
            )
            for number, numbers in enumerate(table)
        ]
