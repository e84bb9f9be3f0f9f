"""Makes small example data: `python -m datamodules.examples LAYOUT OUT`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from datamodules.examples import EXAMPLES, ExampleData, claim
from lightning_fl.errors import ConfigError

AMOUNTS = {
    "sites": "hospitals",
    "patients": "patients of each hospital",
    "size": "width and height of a slice in pixels",
    "slices": "slices of a volume",
    "seed": "another seed makes other patients",
}
"""The options, with their help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data and say how to train on them; return 0, or 2 for settings that cannot work."""
    try:
        options = _parser().parse_args(arguments)
        example = EXAMPLES[options.task]
        asked = {k: v for k in AMOUNTS if (v := getattr(options, k)) is not None}
        amount = replace(example.amount, **asked)
        make = example.make_apart if options.apart else example.make
        if make is None:
            raise ConfigError(
                f"The data of {options.task!r} cannot be made apart; leave out --apart."
            )
        claim(options.out)
        total = amount.sites * amount.patients
        patients = make(options.out, amount)
        for _ in track(patients, options.task, total, console=Console(stderr=True)):
            pass
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(_made(options.out, total) + _next(options, example))
    return 0


def _made(folder: Path, patients: int) -> str:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    mega = sum(sizes) / 1e6
    return f"Made {patients} patients in {len(sizes)} files ({mega:.1f} MB) in {folder}.\n"


def _next(options: argparse.Namespace, example: ExampleData) -> str:
    """Say what trains on the data, or gives them to a hospital."""
    if options.apart:
        module = "lightning_fl.hospital.prepare_kit"
        kit = ["python", "-m", module, "KIT", "--data", str(options.out / "A")]
        return f"Name its own folder in each hospital's kit, e.g.\n{shlex.join(kit)}\n"
    named = [part for config in example.configs for part in ("--config", config)]
    command = shlex.join(["python", "train.py", *named])
    if example.recipe:
        return (
            f"Copy the settings under {options.task!r} in docs/recipes.md into data.yaml, with "
            f"this folder, and train by\n{command} --config data.yaml\n"
        )
    root = shlex.join(["--data.init_args.root", str(options.out)])
    return f"Train on them with\n{command} {root}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.examples",
        description="Make small data, synthetic and repeatable, in the formats of a task.",
        allow_abbrev=False,
    )
    parser.add_argument("task", choices=list(EXAMPLES), help="whose formats")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, new or empty")
    for name, help_text in AMOUNTS.items():
        made = [(task, e.amount) for task, e in EXAMPLES.items() if not e.recipe]
        usual = ", ".join(f"{task} {getattr(amount, name)}" for task, amount in made)
        parser.add_argument(f"--{name}", type=int, help=f"{help_text} ({usual})")
    parser.add_argument(
        "--apart", action="store_true", help="a root of its own for each hospital (images only)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
