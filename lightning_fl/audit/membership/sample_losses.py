"""The loss of each sample of a dataset, as a model's training step computes it."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_fl.audit.membership.inference import Floats
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import DataError
from lightning_fl.training.step_loss import step_loss


def sample_losses(module: pl.LightningModule, dataset: Dataset[Any]) -> Floats:
    """Return `training_step`'s loss of each sample by itself, shape (samples,).

    The model is in eval mode: dropout is off and BatchNorm uses its running statistics. One sample
    makes a batch, since a batch's loss need not be the mean of its samples'.

    Args:
        module: is not changed.
        dataset: its samples as `training_step` wants them, without augmentation.

    Raises:
        ConfigError: a step gives no loss.
        DataError: the dataset is empty.
    """
    return _losses(_alone(module), dataset)


def patient_losses(
    module: pl.LightningModule, data: FederatedDataModule, patients: Sequence[str]
) -> dict[str, float]:
    """Return the mean loss of each patient's samples; the data are bound to their hospital.

    Raises:
        DataError: a patient has no samples.
    """
    spare = _alone(module)
    return {
        patient: float(_losses(spare, data.patient_loader([patient]).dataset).mean())
        for patient in patients
    }


def site_losses(
    module: pl.LightningModule, data: FederatedDataModule
) -> tuple[dict[str, float], dict[str, float]]:
    """Return patients' losses at one hospital: training patients (members) and test patients.

    Validation patients chose the round and the personal model, so they are neither. The data are
    bound to the hospital.
    """
    split = data.split(str(data.site))
    return patient_losses(module, data, split.train), patient_losses(module, data, split.test)


def _alone(module: pl.LightningModule) -> pl.LightningModule:
    """Copy a module, in eval mode and without its Trainer."""
    trainer = module._trainer
    module._trainer = None  # copying it would copy the data too
    try:
        return copy.deepcopy(module).eval()
    finally:
        module._trainer = trainer


def _losses(spare: pl.LightningModule, dataset: Dataset[Any]) -> Floats:
    """Return the loss of each sample by a module in eval mode and without a Trainer."""
    losses = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning: there is nowhere to log to
        for index, batch in enumerate(DataLoader(dataset, batch_size=1)):
            moved = spare.transfer_batch_to_device(batch, spare.device, 0)
            output = spare.training_step(moved, index)
            losses.append(float(step_loss(spare, output, "membership inference needs")))
    if not losses:
        raise DataError("Expected at least one sample to take the loss of, but got none.")
    return np.array(losses, dtype=np.float64)
