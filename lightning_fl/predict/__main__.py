"""Use a run's models on new scans.

`python -m lightning_fl.predict --run RUN --site A --input scan.nii.gz --output mask.nii.gz`
segments one scan, or every scan of a folder into a folder; a run that classifies writes a CSV file
instead. Scans are prepared as in training, by what the run has stored in preprocessing.yaml.
"""

import logging
import sys
import warnings
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.progress import track

from lightning_fl.data.scans import Volume
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.files import write_csv
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.probabilities import check_probabilities, probabilities
from lightning_fl.predict.views import View, segment, views_of
from lightning_fl.results.volume_tables import final_direction
from lightning_fl.run_files import GLOBAL, PERSONAL

NIFTI = (".nii.gz", ".nii")
MASK = ".mask.nii.gz"
"""How masks in a folder are called after their scans."""


@dataclass(frozen=True)
class Job:
    """What to predict.

    Attributes:
        views: the model, once for each direction of the run.
        model: "global" or "personal".
        scans: files or folders, each one scan.
        output: a file for one scan to be segmented or for classes, else a folder.
    """

    views: Sequence[View]
    model: str
    scans: Sequence[Path]
    output: Path

    def run(self) -> Path:
        """Predict every scan.

        Returns:
            What was written: a file, or the folder of several.

        Raises:
            ConfigError, DataError: see `segment`; scans before the one at fault are written.
        """
        first = self.views[0].preprocessing.read(self.scans[0])
        return self._segment() if isinstance(first, Volume) else self._classify()

    def _segment(self) -> Path:
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
            volume, masks = segment(self.views, path)
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
        return self.output

    def _classify(self) -> Path:
        if self.output.is_dir():
            raise ConfigError(f"--output is the folder {self.output}; name a CSV file for classes.")
        rows: list[list[object]] = []
        self.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            for path in self._tracked():
                rows.append(self._classes(path))
        finally:  # a file that cannot be read costs none of those before it
            if rows:
                header = ["scan", "class"]
                header += [f"probability_{n}" for n in range(len(rows[0]) - 2)]
                write_csv(self.output, header, rows)
        return self.output

    def _classes(self, path: Path) -> list[object]:
        """The row of one scan."""
        scan = self.views[0].preprocessing.read(path)
        found = [
            torch.cat(probabilities(v.models[self.model], scan, v.batch_size, v.options))
            for v in self.views
        ]
        each = torch.stack(found).mean(dim=(0, 1)).tolist()
        both = each if len(each) > 1 else [1 - each[0], each[0]]
        number = max(range(len(both)), key=both.__getitem__)
        return [scan.name, number, *(f"{value:.6f}" for value in both)]

    def _tracked(self) -> Sequence[Path]:
        shown = Console(stderr=True)
        return track(self.scans, "scans", console=shown, disable=not sys.stderr.isatty())  # type: ignore[return-value]


def read_job(arguments: Sequence[str] | None = None) -> Job:
    """Read a command line, load the models and find the scans.

    Raises:
        ConfigError: the run, site or model is not there.
        DataError: there is no scan.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.model == PERSONAL and options.site is None:
        parser.error("a personal model belongs to a site; name it with --site, or --model global")
    run = FinishedRun(options.run)
    views = views_of(run, options.site, [options.model], options.accelerator)
    check_probabilities(views[0].models[options.model])
    if not options.input.exists():
        raise DataError(f"There is no {options.input} (looked in {Path.cwd()}).")
    scans = views[0].preprocessing.find(options.input)
    return Job(views, options.model, scans, options.output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict.

    Returns:
        The exit status: 0 for success, 2 for settings or files that cannot work.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    try:
        written = read_job(arguments).run()
    except MisconfigurationException as error:
        sys.stderr.write(f"error: {error} Name another device with --accelerator, e.g. cpu.\n")
        return 2
    except (ConfigError, DataError, OSError, ArgumentError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{written}\n")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m lightning_fl.predict",
        description="Segment or classify new scans by a model of a finished run.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--site", help="whose personal model, or whose way to prepare scans")
    parser.add_argument("--model", choices=[PERSONAL, GLOBAL], default=PERSONAL)
    parser.add_argument("--input", type=Path, required=True, help="a scan, or a folder of scans")
    parser.add_argument("--output", type=Path, required=True, help="file, or folder for several")
    parser.add_argument("--accelerator", help="cpu, gpu or auto; left out: as the run had it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
