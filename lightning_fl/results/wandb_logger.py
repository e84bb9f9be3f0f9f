"""Weights & Biases: one run for the whole federation, plotted over its rounds."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import WandbLogger
from typing_extensions import override

from lightning_fl.errors import ConfigError

if TYPE_CHECKING:  # importing wandb takes seconds, and only a run that logs should wait for it
    from wandb.sdk.lib import RunDisabled
    from wandb.wandb_run import Run


class FederationWandbLogger(WandbLogger):
    """Logs the metrics of every site to one run, with the round as the step.

    Lightning's own logger counts the optimiser steps of one Trainer, and starts again from 0 at
    every fit; a federation fits at every site in every round.

    Args:
        project: name of the project.
        name: name of the run; chosen by wandb if None.
        entity: user or team; the account's default if None.
        group: name under which wandb gathers several runs.
        tags: labels of the run.
        id: id of the run; a new one if None.
        offline: keep the data in the run's folder, to be sent later by `wandb sync`.
    """

    def __init__(
        self,
        project: str = "lightning_fl",
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        id: str | None = None,
        offline: bool = False,
    ) -> None:
        super().__init__(project=project, name=name, id=id, entity=entity, group=group, tags=tags)
        # Lightning's own `offline` would set WANDB_MODE for everything else in the process.
        self._wandb_init["mode"] = "offline" if offline else None
        del self._wandb_init["anonymous"]  # gone from wandb, which warns when it is named

    def bind(self, run: Path, id: str | None = None) -> str:
        """Put the logger's files into `run`/wandb and fix the id, before anything is logged.

        Args:
            run: folder of the run.
            id: the id that this returned before the run was interrupted; None at its first start.

        Returns:
            The id to remember for a resume.

        Raises:
            ConfigError: something was logged before.
        """
        if self._experiment is not None:
            raise ConfigError("Expected bind() before the first metric, but wandb has started.")
        # wandb falls back to a temporary folder, with a warning only, where this one is missing.
        run.mkdir(parents=True, exist_ok=True)
        self._save_dir = self._wandb_init["dir"] = str(run)
        chosen: str = id or self._id or secrets.token_hex(4)
        self._id = self._wandb_init["id"] = chosen
        return chosen

    @property
    @override
    def experiment(self) -> "Run | RunDisabled":
        """The wandb run; started at the first use."""
        if self._experiment is None:
            import wandb

            # Not super().experiment: it would first declare the optimiser step of a Trainer to be
            # the step of everything, and the declaration would stay in the run.
            run = wandb.init(**self._wandb_init)
            run.define_metric("round")
            run.define_metric("*", step_metric="round", step_sync=True)
            self._experiment = run
        return self._experiment

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of one round.

        Args:
            metrics: numbers by name, e.g. "Aachen/global/val/dice".
            step: the round.
        """
        self.experiment.log(dict(metrics) if step is None else {**metrics, "round": step})

    @override
    def finalize(self, status: str) -> None:
        """Finish the wandb run, as failed unless `status` is "success"."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None
