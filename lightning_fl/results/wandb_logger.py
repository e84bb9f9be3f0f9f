"""Weights & Biases: one run for the whole federation, plotted over its rounds."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import WandbLogger
from safetensors.numpy import load_file
from typing_extensions import override

from lightning_fl.errors import ConfigError
from lightning_fl.results.report.slice_pictures import LARGEST_GALLERY, picture_of
from lightning_fl.results.run_logger import RunLogger
from lightning_fl.results.scores import MODELS, metrics_of, score_table
from lightning_fl.run_files import GALLERY, SITES

if TYPE_CHECKING:  # importing wandb takes seconds, and only a run that logs should wait for it
    from wandb import Image, Table
    from wandb.sdk.lib import RunDisabled
    from wandb.wandb_run import Run


class FederationWandbLogger(RunLogger, WandbLogger):
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
        log_pictures: log the report's test images with the outlines of truth and predictions at
            the end; they are images of patients.
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
        log_pictures: bool = False,
    ) -> None:
        super().__init__(project=project, name=name, id=id, entity=entity, group=group, tags=tags)
        # Lightning's own `offline` would set WANDB_MODE for everything else in the process.
        self._wandb_init["mode"] = "offline" if offline else None
        self._log_pictures = log_pictures
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
    def log_results(self, results: Mapping[str, Any], run: Path) -> None:
        """Log a table of the test scores, and pictures where they are asked for."""
        values: dict[str, Any] = {"test_scores": _score_table(results)}
        if self._log_pictures:
            values |= {f"{site}/test_images": p for site, p in _pictures(results, run).items()}
        self.experiment.log({**values, "round": results["rounds"]})

    @override
    def finalize(self, status: str) -> None:
        """Finish the wandb run, as failed unless `status` is "success"."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def _score_table(results: Mapping[str, Any]) -> "Table":
    """Return the test scores of each site and of all, a row for each metric."""
    import wandb

    tables = [score_table(results, metric) for metric in metrics_of(results)]
    models = [model for model in MODELS if any(model in table.models for table in tables)]
    rows = [
        [table.metric, row.name, *(row.values.get(model) for model in models)]
        for table in tables
        for row in (*table.sites, *table.summary)
    ]
    return wandb.Table(columns=["metric", "site", *models], data=rows)


def _pictures(results: Mapping[str, Any], run: Path) -> "dict[str, list[Image]]":
    """Return test images of the first sites that left some in the run's folder."""
    import wandb

    files = {site: run / SITES / site / GALLERY for site in results["sites"]}
    pictures = {}
    for site in [site for site, file in files.items() if file.is_file()][:LARGEST_GALLERY]:
        tensors = load_file(files[site])
        images = tensors.pop("image")
        pictures[site] = [
            wandb.Image(
                picture_of(image),
                masks={name: {"mask_data": masks[number]} for name, masks in tensors.items()},
            )
            for number, image in enumerate(images)
        ]
    return pictures
