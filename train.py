"""Train a federation of hospitals: `python train.py --config configs/quickstart.yaml`.

The only file that sees all four packages: parse, build, run.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fl.run.config import Settings
    from lightning_fl.wire.messages import Message

PACKAGES = ("lightning_fl", "models", "datamodules", "callbacks")
BEFORE_ROUND_1 = ("host", "describe")
"""What every site has to answer before anything begins."""


def check_packages() -> None:
    """Refuse to start where another package of the same name shadows one of ours."""
    here = Path(__file__).resolve().parent
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None or here / name not in Path(spec.origin).parents:
            sys.exit(
                f"error: the package {name!r} should be the folder beside {__file__}, but Python "
                f"finds {spec.origin if spec else 'none'}. Run train.py from its own folder, and "
                "rename or uninstall the other one."
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment.

    Args:
        arguments: the command line without the program's name; None takes that of the process.

    Returns:
        The exit status: 0 for success, 1 for a run that could not go on (it is saved), 2 for
        settings or data that cannot work, 130 for a run stopped by Ctrl-C and 143 for one stopped
        by SIGTERM (both are saved).
    """
    from lightning_fl.run.stopping import STOPPED, sigterm_interrupts, stopped_status
    from lightning_fl.training.quiet import quiet_lightning

    with quiet_lightning(), sigterm_interrupts() as sigterm:
        status = _run(sys.argv[1:] if arguments is None else arguments)
    return stopped_status(sigterm) if status == STOPPED else status


def _run(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    from callbacks import progress_monitor
    from lightning_fl.errors import ConfigError, DataError, SiteError, TooFewSitesError
    from lightning_fl.run.config import read_settings
    from lightning_fl.run.directions import DirectionRuns
    from lightning_fl.run.run import Run
    from lightning_fl.run.stopping import STOPPED

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder: Path | None = None
    try:
        settings = read_settings(arguments)
        folder = settings.folder
        if settings.validate:
            _say_what_was_found(settings, _validate(settings))
        elif settings.experiment.directions:
            runs = DirectionRuns(settings, progress_monitor)
            _say_where(folder)
            runs.start()
        else:
            with closing(progress_monitor()) as monitor:
                run = Run(settings.experiment, folder, monitor, text=settings.text)
                run.state()  # refuses what cannot be resumed before config.yaml is written
                settings.save()
                _say_where(folder)
                run.start()
    except (ConfigError, DataError) as error:
        return _fail(error, 2)
    except (SiteError, TooFewSitesError) as error:
        if isinstance(error, SiteError) and error.op in BEFORE_ROUND_1:
            return _fail(f"at site {error.site!r}: {error.__cause__ or error.detail}", 2)
        return _fail(f"{error}\nGo on with --resume {folder}", 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; go on with --resume {folder}", STOPPED)
    return 0


def _validate(settings: "Settings") -> "Mapping[str, Message]":
    """Return what each site says of itself, and leave the terminal as it was."""
    from callbacks import progress_monitor
    from lightning_fl.run.directions import DirectionRuns
    from lightning_fl.run.run import Run

    if settings.experiment.directions:
        return DirectionRuns(settings, progress_monitor).validate()
    with closing(progress_monitor()) as monitor:
        return Run(settings.experiment, settings.folder, monitor, text=settings.text).validate()


def _say_where(folder: Path) -> None:
    """Print the run's folder at once, so that its files can be watched."""
    sys.stdout.write(f"Run: {folder}\n")
    sys.stdout.flush()  # a pipe keeps lines back


def _say_what_was_found(settings: "Settings", sites: "Mapping[str, Message]") -> None:
    """Print what --validate has learnt of each site, and draw images of those that are here."""
    from lightning_fl.data.summary import describe_data
    from lightning_fl.results.contact_sheet import write_contact_sheet

    experiment = settings.experiment
    data, seed, elsewhere = experiment.data, experiment.seed, experiment.engine.sites
    shown = []
    for site, answer in sites.items():
        if "patients" not in answer.info:
            sys.stdout.write(f"{site}: fits; it keeps its numbers to itself\n")
            continue
        patients = answer.info["patients"]
        sys.stdout.write(
            f"{site}: {patients['train']} patients to train, {patients['val']} to validate, "
            f"{patients['test']} to test; {answer.info['samples']['train']} training images\n"
        )
        if not elsewhere and site in data.site_names():
            sys.stdout.writelines(f"  {line}\n" for line in describe_data(data, site, seed))
            shown.append(site)
    if shown and (sheet := write_contact_sheet(settings.folder, data, shown, seed)):
        sys.stdout.write(f"Images with their masks outlined: {sheet}\n")
    sys.stdout.write("Settings, data and shapes fit together; nothing was trained.\n")


def _fail(error: Exception | str, status: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return status


if __name__ == "__main__":
    check_packages()
    sys.exit(main())
