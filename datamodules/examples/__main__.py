"""Makes small example data: `python -m datamodules.examples rad|covid|images OUT`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from datamodules.examples import EXAMPLES, claim
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
    configs = () if options.apart else example.configs
    sys.stdout.write(summary(options.out, total, configs))
    return 0


def summary(folder: Path, patients: int, configs: Sequence[str]) -> str:
    """Say what was made, and the command that trains on it or gives it to a hospital."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    made = f"Made {patients} patients in {len(sizes)} files ({sum(sizes) / 1e6:.1f} MB) in {folder}"
    if not configs:
        module = "lightning_fl.hospital.prepare_kit"
        kit = ["python", "-m", module, "KIT", "--data", str(folder / "A")]
        return f"{made}.\nName its own folder in each hospital's kit, e.g.\n{shlex.join(kit)}\n"
    named = [part for config in configs for part in ("--config", config)]
    command = ["python", "train.py", *named, "--data.init_args.root", str(folder)]
    return f"{made}.\nTrain on them with\n{shlex.join(command)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.examples",
        description="Make small data, synthetic and repeatable, in the formats of a task.",
        allow_abbrev=False,
    )
    parser.add_argument("task", choices=list(EXAMPLES), help="whose formats")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, new or empty")
    for name, help_text in AMOUNTS.items():
        usual = ", ".join(f"{task} {getattr(e.amount, name)}" for task, e in EXAMPLES.items())
        parser.add_argument(f"--{name}", type=int, help=f"{help_text} ({usual})")
    parser.add_argument(
        "--apart", action="store_true", help="a root of its own for each hospital (images only)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
