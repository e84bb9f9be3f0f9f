"""Predictions of one model for new scans: masks, or a CSV file of classes."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from lightning_fl.data.scans import Mask, Picture, ScanSource, Volume
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_csv
from lightning_fl.predict.mask_files import mask_files
from lightning_fl.predict.site_models import SiteModels, segment
from lightning_fl.results.volume_tables import final_direction


@dataclass(frozen=True)
class Prediction:
    """Say what to predict.

    Attributes:
        directions: the model, once for each direction of the run.
        model: "global" or "personal".
        scans: files or folders, each one scan or, as a tuple, one of its channels.
        output: a file for one scan to be segmented or for classes, else a folder.
    """

    directions: Sequence[SiteModels]
    model: str
    scans: Sequence[ScanSource]
    output: Path

    def run(self) -> Path:
        """Predict every scan, and return the file or folder that was written.

        Raises:
            ConfigError, DataError: see `segment`; scans before the one at fault are written.
        """
        first = self.directions[0].preprocessing.read(self.scans[0])
        task = self.directions[0].models[self.model]
        resizes = callable(getattr(task, "resized_masks", None))
        if isinstance(first, Volume) or (isinstance(first, Picture) and resizes):
            self._segment(first.suffixes)
        else:
            self._classify()
        return self.output

    def _segment(self, suffixes: Sequence[str]) -> None:
        into_folder = self.output.is_dir() or not self.output.suffix
        if not into_folder and not self.output.name.endswith(tuple(suffixes)):
            series = "a DICOM segmentation needs a DICOM series as --input; "
            raise ConfigError(
                f"--output {self.output} is no folder and has an unknown suffix; "
                f"{series if self.output.suffix == '.dcm' else ''}masks of {self.scans[0]} are "
                f"{' or '.join(suffixes)} files. A new folder has no dot in its name."
            )
        if len(self.scans) > 1 and not into_folder:
            raise ConfigError(
                f"There are {len(self.scans)} scans, but --output is one file, {self.output}. Name "
                "a folder."
            )
        (self.output if into_folder else self.output.parent).mkdir(parents=True, exist_ok=True)
        sources = [(scan,) if isinstance(scan, Path) else scan for scan in self.scans]
        inputs = {path.resolve() for source in sources for path in source}
        written: set[Path] = set()
        for path in self._tracked():
            scan, mask = self._mask(path)
            name = self.output / f"{scan.name}.mask{suffixes[0]}" if into_folder else self.output
            for target, part in mask_files(scan, mask, name).items():
                if target.resolve() in inputs | written:
                    raise ConfigError(
                        f"The mask of {path} would replace {target}, which is "
                        f"{'a scan' if target.resolve() in inputs else 'the mask of another scan'}."
                        " Name another --output, or rename the scan."
                    )
                scan.save(part, target)
                written.add(target.resolve())

    def _mask(self, path: ScanSource) -> tuple[Volume | Picture, Mask]:
        """Read and segment one scan or picture."""
        scan = self.directions[0].preprocessing.read(path)
        if isinstance(scan, Picture):
            return scan, self.directions[0].mask(self.model, scan)
        volume, masks = segment(self.directions, path)
        return volume, masks[self.model][final_direction(masks[self.model])]

    def _classify(self) -> None:
        if self.output.suffix != ".csv" or self.output.is_dir():
            raise ConfigError(f"--output is {self.output}; name a CSV file for classes (.csv).")
        rows: list[list[object]] = []
        self.output.parent.mkdir(parents=True, exist_ok=True)
        columns: list[str] = []
        try:
            for path in self._tracked():
                row = self._classes(path)
                columns = list(row)
                rows.append(list(row.values()))
        finally:  # a file that cannot be read costs none of those before it
            if rows:
                write_csv(self.output, columns, rows)

    def _classes(self, path: ScanSource) -> dict[str, object]:
        """Return the row of one scan, by column; several labels have no likeliest one."""
        preprocessing = self.directions[0].preprocessing
        scan = preprocessing.read(path)
        by_direction = [torch.cat(d.probabilities(self.model, scan)) for d in self.directions]
        if by_direction[0].ndim != 2:
            raise ConfigError(
                f"The task gives probabilities of shape {tuple(by_direction[0].shape)}, which are "
                "no classes of an image. A task that segments images needs `resized_masks`, as "
                "models.Segmentation has it."
            )
        mean = torch.stack(by_direction).mean(dim=(0, 1)).tolist()
        multilabel = getattr(self.directions[0].models[self.model], "multilabel", False) is True
        values = mean if multilabel or len(mean) > 1 else [1 - mean[0], mean[0]]
        given = preprocessing.class_names()
        names = given if len(given) == len(values) else [str(n) for n in range(len(values))]
        likeliest = names[max(range(len(values)), key=values.__getitem__)]
        row: dict[str, object] = {"scan": scan.name}
        if not multilabel:
            row["class"] = likeliest
        for name, value in zip(names, values, strict=True):
            row[f"probability_{name}"] = f"{value:.6f}"
        return row

    def _tracked(self) -> Iterable[ScanSource]:
        console = Console(stderr=True)
        return track(self.scans, "scans", console=console, disable=not sys.stderr.isatty())
