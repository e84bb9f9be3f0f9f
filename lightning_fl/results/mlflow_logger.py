"""MLflow: one run for the whole federation, in a database of its own or at a server."""

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import Logger

from lightning_fl.results.run_logger import RunLogger, require_packages

FOLDER = "mlflow"
RUN_TAG = "lightning_fl.run"
"""Tag with the id of the run, by which a resumed run is recognised."""


class FederationMLFlowLogger(RunLogger, Logger):
    """Logs every round's metrics with the round as the step.

    Lightning's own logger opens its store when it is built, before the run has a folder. So it is
    built in `bind`. MLflow's usage reports to its makers are off unless MLFLOW_DISABLE_TELEMETRY
    says otherwise.

    Args:
        tracking_uri: of a server; null for the database RUN/mlflow/mlflow.db, see it by
            `mlflow server --backend-store-uri sqlite:///RUN/mlflow/mlflow.db`.
        experiment_name: under which MLflow gathers runs.
        run_name: name of the run; chosen by MLflow if None.

    Raises:
        ConfigError: MLflow or what its database needs is not installed.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str = "lightning_fl",
        run_name: str | None = None,
    ) -> None:
        super().__init__()
        database = () if tracking_uri else ("sqlalchemy", "alembic")
        require_packages(type(self).__name__, "mlflow", "mlflow", *database)
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment_name
        self.run_name = run_name
        self._logger: MLFlowLogger | None = None
        self._resumed = False

    def bind(self, run: Path, id: str) -> None:
        """Open the store, and go on with the MLflow run of an earlier start."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        folder = (run / FOLDER).resolve()
        uri = self.tracking_uri
        if uri is None:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        earlier = _earlier_run(uri, self.experiment_name, id)
        self._resumed = earlier is not None
        self._logger = MLFlowLogger(
            experiment_name=self.experiment_name,
            run_name=self.run_name,
            tracking_uri=uri,
            tags={RUN_TAG: id},
            artifact_location=None if self.tracking_uri else (folder / "artifacts").as_uri(),
            run_id=earlier,
        )

    @property
    def name(self) -> str:
        """Return the name in warnings."""
        return "MLflow"

    @property
    def version(self) -> str | None:
        """Return the id of the MLflow run; None before `bind`."""
        return self._logger.run_id if self._logger else None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Log the settings, of the first start alone: MLflow lets none be changed."""
        if not self._resumed:
            self._bound.log_hyperparams(params)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of one round.

        Args:
            metrics: numbers by name, e.g. "Aachen/global/val/dice".
            step: the round.
        """
        self._bound.log_metrics({_mlflow_name(k): v for k, v in metrics.items()}, step)

    def finalize(self, status: str) -> None:
        """Mark the MLflow run as finished, or as failed."""
        if self._logger:
            self._logger.finalize(status)

    @property
    def _bound(self) -> MLFlowLogger:
        if self._logger is None:
            raise RuntimeError("Expected bind() before anything is logged.")
        return self._logger


def _earlier_run(uri: str, experiment: str, id: str) -> str | None:
    """Return the MLflow run that has the id as its tag; None at the first start."""
    from mlflow import MlflowClient  # importing it takes seconds

    client = MlflowClient(uri)
    place = client.get_experiment_by_name(experiment)
    if place is None:
        return None
    runs = client.search_runs([place.experiment_id], f"tags.`{RUN_TAG}` = '{id}'")
    return str(runs[0].info.run_id) if runs else None


def _mlflow_name(name: str) -> str:
    """Write what MLflow's names may not hold as its code.

    Lightning's logger would leave it out, and two sites could share a name.
    """
    return re.sub(r"[^a-zA-Z0-9_/. -]", lambda match: f"_{ord(match[0]):x}_", name)
