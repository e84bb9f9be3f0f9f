from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from lightning_fl.errors import ConfigError, SiteError
from tests.toy import toy_experiment, toy_run

CALLBACKS: dict[str, Callable[[], pl.Callback]] = {
    "EarlyStopping .*`rounds`": lambda: EarlyStopping("val/loss"),
    "ModelCheckpoint .* models/": ModelCheckpoint,
    "LearningRateMonitor .*`loggers`": LearningRateMonitor,
    "StochasticWeightAveraging .*`average: true`": lambda: StochasticWeightAveraging(0.1),
    "EMAWeightAveraging .*`average: true`": EMAWeightAveraging,
}


@pytest.mark.parametrize("message", CALLBACKS)
def test_callbacks_that_cannot_work_are_refused_with_what_to_use_instead(
    tmp_path: Path, message: str
) -> None:
    experiment = toy_experiment(callbacks=[CALLBACKS[message]()])
    with pytest.raises(ConfigError, match=f"The callback {message}"):
        toy_run(tmp_path, experiment).validate()


class NeedsLogger(pl.Callback):
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert trainer.logger is not None, "no logger"


class CountBatches(pl.Callback):
    batches = 0

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        type(self).batches += 1


def test_another_callback_that_fails_is_seen_before_round_1(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(callbacks=[NeedsLogger()]))
    with pytest.raises(SiteError, match="no logger") as failed:
        run.validate()
    assert failed.value.op == "describe"


def test_other_callbacks_work_in_every_round(tmp_path: Path) -> None:
    toy_run(tmp_path, toy_experiment(callbacks=[CountBatches()], rounds=1)).start()
    rehearsed, trained = 3 * 1, 3 * 3
    assert CountBatches.batches == rehearsed + trained
