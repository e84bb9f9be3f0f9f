"""One training and one validation batch before round 1.

What can be wrong with settings and files so shows in seconds rather than in the night.
"""

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lightning_fl.errors import ConfigError, NonFiniteError
from lightning_fl.training.fitting import TrainerOptions, evaluate, make_trainer
from lightning_fl.training.layout import is_finite


def rehearse(
    module: pl.LightningModule,
    train: DataLoader[Any],
    val: DataLoader[Any],
    callbacks: Sequence[pl.Callback],
    options: TrainerOptions,
) -> set[str]:
    """Train one batch and validate one batch, as a round would.

    The module is a copy that may be spoiled. A task may have a method `check_batch(batch)`, which
    is called with one batch of each split and raises an error for one that does not fit.

    Returns:
        Names of the metrics that the module logs in validation and in test.

    Raises:
        ConfigError: BatchNorm is left with a single value for each channel.
        NonFiniteError: the first loss is NaN or infinite.
    """
    if check := getattr(module, "check_batch", None):
        for loader in (train, val):
            check(next(iter(loader)))
    trainer = make_trainer(
        options,
        max_steps=1,
        limit_train_batches=options.accumulate_grad_batches,
        limit_val_batches=0,
        callbacks=list(callbacks),
    )
    try:
        trainer.fit(module, train)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"BatchNorm cannot train on a single value ({error}). Raise `batch_size` or the image "
            "size, or give the site more training images."
        ) from error
    logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
    if not is_finite(module.state_dict()) or any(map(math.isnan, logged.values())):
        raise NonFiniteError(f"the very first training step gave NaN or infinity: {logged}")
    scores = evaluate(module, val, "val", options, batches=1)
    # the test step is tried on validation images; test images are for the end alone
    return set(scores) & set(evaluate(module, val, "test", options, batches=1))
