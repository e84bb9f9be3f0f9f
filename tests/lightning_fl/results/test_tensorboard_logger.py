"""TensorBoard's own reader sees what a run has logged."""

from pathlib import Path
from typing import Any

import pytest

from lightning_fl.errors import ConfigError
from lightning_fl.results.run_logger import require_packages
from lightning_fl.results.tensorboard_logger import FederationTensorBoardLogger
from tests.toy import toy_experiment, toy_run

accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def logged(run: Path) -> dict[str, dict[int, float]]:
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_a_run_logs_every_round_into_its_folder(tmp_path: Path) -> None:
    toy_run(tmp_path, toy_experiment(loggers=[FederationTensorBoardLogger()])).start()
    curves = logged(tmp_path)
    assert curves["A/global/val/loss"].keys() == {0, 1, 2}
    assert {"A/personal/test/loss", "C/global/test/loss"} <= curves.keys()


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    for round_ in (1, 2):
        logger = FederationTensorBoardLogger()
        logger.bind(tmp_path, "one")
        logger.log_metrics({"A/global/val/dice": round_ / 4}, step=round_)
        logger.finalize("success")
    assert logged(tmp_path) == {"A/global/val/dice": {1: 0.25, 2: 0.5}}


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(
        ConfigError, match=r'needs no_such_package, .* `pip install -e ".\[more\]"`'
    ):
        require_packages("Logger", "more", "json", "no_such_package")
