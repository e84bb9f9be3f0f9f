"""Predictions of one model for new scans: masks, or a CSV file of classes."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from lightning_fl.data.scans import Volume
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_csv
from lightning_fl.predict.site_models import SiteModels, segment
from lightning_fl.results.volume_tables import final_direction

NIFTI = (".nii.gz", ".nii")
MASK = ".mask.nii.gz"
"""Suffix of the masks in a folder, behind the names of their scans."""


@dataclass(frozen=True)
class Prediction:
    """Say what to predict.

    Attributes:
        directions: the model, once for each direction of the run.
        model: "global" or "personal".
        scans: files or folders, each one scan.
        output: a file for one scan to be segmented or for classes, else a folder.
    """

    directions: Sequence[SiteModels]
    model: str
    scans: Sequence[Path]
    output: Path

    def run(self) -> Path:
        """Predict every scan, and return the file or folder that was written.

        Raises:
            ConfigError, DataError: see `segment`; scans before the one at fault are written.
        """
        first = self.directions[0].preprocessing.read(self.scans[0])
        if isinstance(first, Volume):
            self._segment()
        else:
            self._classify()
        return self.output

    def _segment(self) -> None:
        into_folder = not self.output.name.endswith(NIFTI)
        if len(self.scans) > 1 and not into_folder:
            raise ConfigError(
                f"There are {len(self.scans)} scans, but --output is one file, {self.output}. Name "
                "a folder."
            )
        (self.output if into_folder else self.output.parent).mkdir(parents=True, exist_ok=True)
        inputs = {path.resolve() for path in self.scans}
        written: set[Path] = set()
        for path in self._tracked():
            volume, masks = segment(self.directions, path)
            mask = masks[self.model][final_direction(masks[self.model])]
            target = self.output / f"{volume.name}{MASK}" if into_folder else self.output
            if target.resolve() in inputs | written:
                raise ConfigError(
                    f"The mask of {path} would replace {target}, which is "
                    f"{'a scan' if target.resolve() in inputs else 'the mask of another scan'}. "
                    "Name another --output, or rename the scan."
                )
            volume.save(mask, target)
            written.add(target.resolve())

    def _classify(self) -> None:
        if self.output.is_dir():
            raise ConfigError(f"--output is the folder {self.output}; name a CSV file for classes.")
        rows: list[list[object]] = []
        self.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            for path in self._tracked():
                rows.append(self._classes(path))
        finally:  # a file that cannot be read costs none of those before it
            if rows:
                probability_columns = [f"probability_{n}" for n in range(len(rows[0]) - 2)]
                write_csv(self.output, ["scan", "class", *probability_columns], rows)

    def _classes(self, path: Path) -> list[object]:
        """Return the row of one scan."""
        scan = self.directions[0].preprocessing.read(path)
        by_direction = [torch.cat(d.probabilities(self.model, scan)) for d in self.directions]
        mean = torch.stack(by_direction).mean(dim=(0, 1)).tolist()
        classes = mean if len(mean) > 1 else [1 - mean[0], mean[0]]
        likeliest = max(range(len(classes)), key=classes.__getitem__)
        return [scan.name, likeliest, *(f"{value:.6f}" for value in classes)]

    def _tracked(self) -> Iterable[Path]:
        console = Console(stderr=True)
        return track(self.scans, "scans", console=console, disable=not sys.stderr.isatty())
