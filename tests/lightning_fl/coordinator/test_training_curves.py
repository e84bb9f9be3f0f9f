"""Training curves of a federation: who gets them, and where they stay at the site."""

import json
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers.logger import DummyLogger

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.privacy import SampleLevelDP, SiteLevelDP
from lightning_fl.results.tables import read_costs, read_metrics
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.records import TRAINING, MetricRow
from tests.lightning_fl.run.resuming import interrupted_at
from tests.toy import SITES, rounds_alone, toy_experiment, toy_run


def curve_rows(folder: Path) -> list[MetricRow]:
    return [row for row in read_metrics(folder / "metrics.csv") if row.model == TRAINING]


def test_each_round_of_each_site_has_its_training_curves(tmp_path: Path) -> None:
    results = toy_run(tmp_path, toy_experiment(), report=True).start()
    rows = curve_rows(tmp_path)
    assert {row[:2] for row in rows} == {(round_, site) for round_ in (1, 2) for site in SITES}
    assert {row.metric for row in rows} == {"loss", "lr", "grad_norm", "samples"}
    assert {row.value for row in rows if row.metric == "samples"} == {12.0}  # three steps of four
    assert {row.value for row in rows if row.metric == "lr"} == {0.1}
    assert "Training in each round" in (tmp_path / "report.html").read_text()
    costs = read_costs(tmp_path / "costs.csv")
    assert sum(cost.operation == "train: fit" for cost in costs) == 6
    assert "training" not in results["sites"]["A"]


def test_a_round_that_is_not_over_counts_no_curve_as_a_score(tmp_path: Path) -> None:
    with interrupted_at("train", 2):
        toy_run(tmp_path, toy_experiment()).start()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["best_round"] == 1
    assert set(results["sites"]["A"]) == {"global"}


class Spy(DummyLogger):
    """Keeps the names and the step of all that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, list[int | None]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for name in metrics:
            self.steps.setdefault(name, []).append(step)


def test_loggers_get_curves_and_speed_with_the_round_as_the_step(tmp_path: Path) -> None:
    logger = Spy()
    rounds_alone(tmp_path, toy_experiment(loggers=[logger])).start()
    for name in ("loss", "lr", "grad_norm", "seconds", "samples_per_second"):
        assert logger.steps[f"A/training/train/{name}"] == [1, 2]
    assert "seconds" not in {row.metric for row in read_metrics(tmp_path / "metrics.csv")}


@pytest.mark.parametrize(
    "settings",
    [
        {"aggregator": CyclicCKKS(weights="hidden")},
        {"aggregator": Plain(weights="equal"), "privacy": SiteLevelDP(noise_multiplier=1.0)},
        {"privacy": SampleLevelDP(noise_multiplier=1.0)},
        {"trainer": TrainerOptions(local_steps=3, accelerator="cpu", curves=False)},
    ],
    ids=["hidden counts", "site-level privacy", "sample-level privacy", "switched off"],
)
def test_training_curves_stay_at_the_site(tmp_path: Path, settings: dict[str, Any]) -> None:
    run = rounds_alone(tmp_path, toy_experiment(rounds=1, **settings))
    run.start()
    assert not curve_rows(tmp_path)
    assert "train: fit" not in (tmp_path / "costs.csv").read_text()
