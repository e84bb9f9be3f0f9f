"""Train a federation from Python: `lightning_fl.fit(experiment, folder)`."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run.config import refuse_changes
from lightning_fl.run.description import describe
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.run_files import CHECKPOINTS, CONFIG, SETTINGS
from lightning_fl.training.quiet import quiet_lightning
from lightning_fl.wire.monitor import Monitor


def fit(
    experiment: Experiment,
    folder: str | Path,
    *,
    resume: bool = False,
    monitor: Monitor | None = None,
) -> FinishedRun:
    """Train a federation, personalise it at every site and test it.

    Args:
        experiment: the settings, as objects. None of them is changed.
        folder: of the run; made if it is not there.
        resume: go on from the last checkpoint in the folder.
        monitor: hears of the progress, e.g. `callbacks.progress_monitor()`.

    Returns:
        The run: `results` is what results.json holds, and `model(site)` gives its models.

    Raises:
        ConfigError: settings that cannot work, or a folder that holds a run.
        SiteError: a site cannot take part.
        TooFewSitesError: too few sites were left in a round; the run is saved.
    """
    folder = Path(folder)
    if experiment.directions:
        raise ConfigError(
            f"`directions` {list(experiment.directions)} are a federation each, which train.py "
            "starts. Give the data one `direction`, and fit each into a folder of its own."
        )
    _check_folder(folder, resume=resume)
    began = _settings_of_start(folder, experiment) if resume else {}
    planned = experiment.algorithm.for_rounds(began.get("rounds", experiment.rounds))
    experiment = replace(experiment, algorithm=planned)
    run = Run(experiment, folder, monitor or Monitor())
    with closing(run.monitor), quiet_lightning():
        run.start()
    return FinishedRun(folder, run.blueprint.template)


def _check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse a folder with a run that is not to go on, or without one that is."""
    if (folder / CONFIG).is_file():
        raise ConfigError(
            f"train.py has written {folder / CONFIG}. Go on with that run by `train.py --resume "
            f"{folder}`, or choose another folder."
        )
    begun = any((folder / CHECKPOINTS).glob("round-*"))
    if begun and not resume:
        raise ConfigError(
            f"{folder} already holds a run. Go on with it by `resume=True`, or choose another "
            "folder."
        )
    if resume and not begun:
        raise ConfigError(f"There is no run to resume in {folder}; leave `resume` out.")


def _settings_of_start(folder: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the settings that a run began with; refuse others than may change."""
    before: dict[str, Any] = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    planned = experiment.algorithm.for_rounds(before["rounds"])
    after = yaml.safe_load(yaml.safe_dump(describe(replace(experiment, algorithm=planned))))
    refuse_changes(before, after, folder / SETTINGS)
    return before
