"""Export the network of a run.

`python -m lightning_fl.export --run RUN --site A --to onnx --shape 1 96 96` writes the network of
site A without the task around it, and a JSON file with its preprocessing.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from lightning_fl.errors import ConfigError, DataError
from lightning_fl.export.model_export import FORMATS, export_model
from lightning_fl.predict.finished_run import load
from lightning_fl.run_files import GLOBAL, PERSONAL


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and return the exit status: 2 for what cannot be exported, else 0."""
    parser = _parser()
    options = parser.parse_args(arguments)
    kind = options.model or (PERSONAL if options.site else GLOBAL)
    if kind == PERSONAL and options.site is None:
        parser.error("a personal model belongs to a site; name it with --site, or --model global")
    try:
        written = export_model(
            load(options.run),
            options.site,
            to=options.to,
            kind=kind,
            shape=options.shape,
            output=options.output,
        )
    except (ConfigError, DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{written}\n")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m lightning_fl.export",
        description="Write the network of a finished run for other programs.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--site", help="whose network; left out: the shared one")
    parser.add_argument("--model", choices=[PERSONAL, GLOBAL], help="of the site")
    parser.add_argument("--to", choices=list(FORMATS), required=True, help="format")
    parser.add_argument(
        "--shape", type=int, nargs="+", help="channels and size of an image, e.g. 1 96 96"
    )
    parser.add_argument("--output", type=Path, help="file, or folder of a bundle")
    return parser


if __name__ == "__main__":
    sys.exit(main())
