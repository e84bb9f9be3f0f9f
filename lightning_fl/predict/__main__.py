"""Use a run's models on new scans and images.

`python -m lightning_fl.predict --run RUN --site A --input scan.nii.gz --output mask.nii.gz`
segments one scan, or every scan of a folder into a folder; images become PNG masks, each on the
pixels of its file, and overlapping regions have a file each. A run that classifies writes a CSV
file instead. Scans are prepared as in training, by what the run has stored in preprocessing.yaml.
"""

import sys
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_fl.errors import ConfigError, DataError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.prediction import Prediction
from lightning_fl.predict.site_models import models_by_direction
from lightning_fl.run_files import GLOBAL, PERSONAL
from lightning_fl.training.output_maps import check_output_maps
from lightning_fl.training.quiet import quiet_lightning


def read_prediction(arguments: Sequence[str] | None = None) -> Prediction:
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
    directions = models_by_direction(run, options.site, [options.model], options.accelerator)
    check_output_maps(
        directions[0].models[options.model],
        "Predictions need probabilities",
        "use models.Segmentation or models.Classification",
    )
    if not options.input.exists():
        raise DataError(f"There is no {options.input} (looked in {Path.cwd()}).")
    scans = directions[0].preprocessing.find(options.input)
    return Prediction(directions, options.model, scans, options.output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, and return the exit status: 2 for settings or files that cannot work, else 0."""
    try:
        with quiet_lightning():
            written = read_prediction(arguments).run()
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
        description="Segment or classify new scans or images by a model of a finished run.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--site", help="whose personal model, or whose way to prepare scans")
    parser.add_argument("--model", choices=[PERSONAL, GLOBAL], default=PERSONAL)
    parser.add_argument(
        "--input", type=Path, required=True, help="a scan or image, or a folder of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="file, or folder for several")
    parser.add_argument("--accelerator", help="cpu, gpu or auto; left out: as the run had it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
