"""Training that stops where no round is better than the best one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Personalisation
from lightning_fl.results.tables import read_metrics
from lightning_fl.run.run import Run
from lightning_fl.training.evaluation import Evaluation
from tests.toy import Listener, ToyModule, toy_experiment, toy_run


class Stops(Listener):
    """Hears when training ends early."""

    def __init__(self) -> None:
        super().__init__()
        self.stops: list[tuple[int, int]] = []

    def on_early_stop(self, *, round_: int, best_round: int) -> None:
        self.stops.append((round_, best_round))


def worse_and_worse(folder: Path, monitor: Listener, **evaluation: Any) -> Run:
    """A run whose loss is best before the first round: its steps are far too long."""
    torch.manual_seed(0)
    choice = Evaluation("loss", lower_is_better=True, **evaluation)
    module = ToyModule(lr=0.6)
    experiment = toy_experiment(
        module=module, evaluation=choice, rounds=9, personalisation=Personalisation([])
    )
    return toy_run(folder, experiment, monitor)


@pytest.mark.parametrize(
    ("evaluation", "rounds"),
    [({"patience": 2}, 2), ({"patience": 3, "every": 2}, 4), ({"patience": 9}, 9), ({}, 9)],
)
def test_training_stops_after_rounds_of_patience(
    tmp_path: Path, evaluation: dict[str, Any], rounds: int
) -> None:
    monitor = Stops()
    results = worse_and_worse(tmp_path, monitor, **evaluation).start()
    assert (results["rounds"], results["best_round"]) == (rounds, 0)
    assert monitor.stops == ([(rounds, 0)] if rounds < 9 else [])
    rows = read_metrics(tmp_path / "metrics.csv")
    assert {row.round for row in rows if row.split == "test"} == {0}


def test_a_run_that_stopped_early_is_over_until_patience_is_raised(tmp_path: Path) -> None:
    worse_and_worse(tmp_path, Stops(), patience=2).start()
    again = Stops()
    assert worse_and_worse(tmp_path, again, patience=2).start()["rounds"] == 2
    assert again.rounds == []
    assert worse_and_worse(tmp_path, again, patience=4).start()["rounds"] == 4


def test_patience_shorter_than_the_time_between_evaluations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least `evaluation\.every`, 3 rounds, but got 2"):
        worse_and_worse(tmp_path, Stops(), patience=2, every=3)
