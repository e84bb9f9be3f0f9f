"""`python -m study --config configs/study/NAME.yaml`: train, collect, compare."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from lightning_fl.errors import ConfigError
from lightning_fl.run.stopping import sigterm_interrupts, stopped_status
from study.collect import collect, collect_again
from study.conditions import conditions_of, planned, settings_of
from study.pages import write_reports
from study.rows import Missing, write_records
from study.runner import Runner
from study.study_file import Study, check_names, check_seeds, read_study
from study.study_folder import check_claim, claim, locked, with_earlier_seeds
from study.worker import load_train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study, or go on with it.

    Args:
        arguments: the command line without the program's name; None takes that of the process.

    Returns:
        The exit status: 0 for success, 1 where something is missing, 2 for a study that cannot
        work, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    command = shlex.join(["python", "-m", "study", *words])
    with sigterm_interrupts() as sigterm:
        try:
            missing = _run(options, command)
        except ConfigError as error:
            return _fail(str(error), 2)
        except KeyboardInterrupt:
            text = f"interrupted; finished runs stay. Go on with the same command:\n{command}"
            return _fail(text, stopped_status(sigterm))
    if missing:
        lines = "\n".join(map(str, missing))
        return _fail(f"missing in the tables:\n{lines}\nThe same command tries again.", 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study",
        description="Train the runs of a study that are not finished, and compare them.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, help="the study file")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one core")
    parser.add_argument("--output", type=Path, help="the study's folder; runs/study/NAME if absent")
    parser.add_argument("--only", nargs="+", help="these methods, and the reference")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of those of the file")
    parser.add_argument(
        "--report-only", action="store_true", help="train nothing, write the pages again"
    )
    return parser


def _run(options: argparse.Namespace, command: str) -> list[Missing]:
    """Train, collect and report; return what is missing in the end."""
    if options.jobs < 1:
        raise ConfigError(f"Expected --jobs to be at least 1, but got {options.jobs}.")
    check_seeds(options.seeds or [])
    study = read_study(options.config)
    conditions = conditions_of(study, options.seeds)
    shown = only(study, options.only)
    folder: Path = options.output or Path("runs", "study", options.config.stem)
    report = partial(
        write_reports,
        folder,
        shown,
        conditions,
        title=f"Study {options.config.stem}",
        command=command,
    )

    def conclude() -> list[Missing]:
        """Write tables and pages of the runs that are there; also while the study goes on."""
        everything = planned(with_earlier_seeds(folder, conditions), study.runs)
        records = collect(folder, study, everything)
        write_records(folder, records)
        return report(records)

    if not options.report_only:
        load_train().check_packages()
    settings = settings_of(study, options.config, conditions)
    if options.report_only:
        check_claim(folder, options.config, settings)
        missing = report(collect_again(folder, shown, planned(conditions, shown.runs)))
    else:
        with locked(folder):
            claim(folder, options.config, settings)
            conclude()
            runs = planned(conditions, {method.run for method in shown.methods.values()})
            Runner(folder, runs, conclude, Console(stderr=True)).run(options.jobs)
            missing = conclude()
    sys.stdout.write(f"{folder / 'report.md'}\n{folder / 'report.html'}\n")
    return missing


def only(study: Study, names: Sequence[str] | None) -> Study:
    """Return the study with some of its methods, and the reference."""
    if names is None:
        return study
    check_names("--only", names, study.methods)
    kept = {k: v for k, v in study.methods.items() if k in (*names, study.reference)}
    return replace(study, methods=kept, floor=[name for name in study.floor if name in kept])


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
