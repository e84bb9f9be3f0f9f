"""Refuse callbacks of Lightning that cannot do their work inside a round."""

from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    DeviceStatsMonitor,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    StochasticWeightAveraging,
    WeightAveraging,
)

from lightning_fl.errors import ConfigError

NO_LOGGER = "there is no logger inside a round. Give the run one by `loggers`"
AVERAGES = (
    "the mean over sites replaces its weights after each round. Average the end of fine-tuning by "
    "`average: true` of a FineTune among `personalisation.candidates`"
)
REASONS: dict[type[pl.Callback], str] = {
    EarlyStopping: (
        "nothing is validated inside a round. Set `evaluation.patience`, and `rounds` to the "
        "most that there may be"
    ),
    Checkpoint: "a run keeps its own checkpoints and models. Find them in checkpoints/ and models/",
    LearningRateMonitor: NO_LOGGER,
    DeviceStatsMonitor: NO_LOGGER,
    StochasticWeightAveraging: AVERAGES,
    WeightAveraging: AVERAGES,
    GradientAccumulationScheduler: (
        "steps of a round are counted beforehand. Set `trainer.accumulate_grad_batches`"
    ),
    LearningRateFinder: "it would train before each round. Set `lr` of the task's optimiser",
    BatchSizeFinder: "it would train before each round. Set `batch_size` of the data",
}
"""Why a callback cannot work in a site's training, and what to do instead."""


def check_callbacks(callbacks: Iterable[pl.Callback]) -> None:
    """Refuse the callbacks that `REASONS` names, and those that are made of them.

    Raises:
        ConfigError: there is one.
    """
    for callback in callbacks:
        for kind, reason in REASONS.items():
            if isinstance(callback, kind):
                raise ConfigError(
                    f"The callback {type(callback).__name__} cannot work in a federation, since "
                    f"{reason}, and take it out of `callbacks`."
                )
