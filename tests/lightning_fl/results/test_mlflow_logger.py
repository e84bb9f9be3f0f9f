"""MLflow's own client reads back what was logged into the run's database."""

import os
from pathlib import Path
from typing import Any

import pytest

mlflow: Any = pytest.importorskip("mlflow")
pytest.importorskip("alembic")

from lightning_fl.results.mlflow_logger import FederationMLFlowLogger  # noqa: E402


def test_two_starts_give_one_run_in_the_folder_with_the_round_as_step(tmp_path: Path) -> None:
    folder = tmp_path / "a run"  # with a space
    for round_, status in ((1, "failed"), (2, "success")):
        logger = FederationMLFlowLogger()
        logger.bind(folder, "one")
        logger.log_hyperparams({"net": {"class_path": "Unet"}, "rounds": round_})
        values = {f"{site}/global/val/dice": round_ / 4 for site in ("Köln", "K@ln")}
        logger.log_metrics(values, step=round_)
        logger.finalize(status)

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    [place] = [e for e in client.search_experiments() if e.name == "lightning_fl"]
    [run] = client.search_runs([place.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"net/class_path": "Unet", "rounds": "1"}
    assert run.data.metrics.keys() == {"K_f6_ln/global/val/dice", "K_40_ln/global/val/dice"}
    curve = client.get_metric_history(run.info.run_id, "K_f6_ln/global/val/dice")
    assert {point.step: point.value for point in curve} == {1: 0.25, 2: 0.5}
    assert run.info.artifact_uri.startswith((folder / "mlflow").as_uri())


def test_nothing_is_reported_to_the_makers_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr("lightning_fl.results.mlflow_logger._earlier_run", lambda *_: None)
    monkeypatch.setattr("lightning_fl.results.mlflow_logger.MLFlowLogger", lambda **_: None)
    FederationMLFlowLogger().bind(tmp_path, "one")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_logging_before_the_logger_has_its_place_is_refused() -> None:
    with pytest.raises(RuntimeError, match="before anything is logged"):
        FederationMLFlowLogger().log_metrics({"mean": 0.5}, step=1)
