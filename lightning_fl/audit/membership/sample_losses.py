"""The loss of each sample of a dataset, as a model's training step computes it."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_fl.audit.membership.inference import Floats
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import DataError
from lightning_fl.training.step_loss import loss_in


def sample_losses(module: pl.LightningModule, dataset: Dataset[Any]) -> Floats:
    """`training_step`'s loss of each sample by itself, shape (samples,).

    The model is in eval mode: dropout is off and BatchNorm uses its running statistics. One sample
    makes a batch, since a batch's loss need not be the mean of its samples'.

    Args:
        module: is not changed.
        dataset: its samples as `training_step` wants them, without augmentation.

    Raises:
        DataError: the dataset is empty, or a step gives no loss.
    """
    if samples_in(dataset) == 0:
        raise DataError("Expected at least one sample to take the loss of, but got none.")
    spare = _alone(module)
    found = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning: there is nowhere to log to
        for index, batch in enumerate(DataLoader(dataset, batch_size=1)):
            here = spare.transfer_batch_to_device(batch, spare.device, 0)
            output = spare.training_step(here, index)
            loss = loss_in(output)
            if not isinstance(loss, Tensor):
                raise DataError(
                    f"{type(module).__name__}.training_step gave {type(output).__name__} instead "
                    f"of a loss for sample {index}."
                )
            found.append(float(loss))
    return np.array(found, dtype=np.float64)


def patient_losses(
    module: pl.LightningModule, data: FederatedDataModule, patients: Sequence[str]
) -> dict[str, float]:
    """The mean loss of each patient's samples.

    Args:
        module: is not changed.
        data: bound to the patients' hospital.
        patients: of that hospital.

    Raises:
        DataError: a patient has no samples.
    """
    return {
        patient: float(sample_losses(module, data.patient_loader([patient]).dataset).mean())
        for patient in patients
    }


def site_losses(
    module: pl.LightningModule, data: FederatedDataModule
) -> tuple[dict[str, float], dict[str, float]]:
    """Patients' losses at one hospital: those who trained (members) and the test patients.

    Validation patients chose the round and the personal model, so they are neither.

    Args:
        module: a finished global or personal model.
        data: bound to the hospital.
    """
    split = data.split(str(data.site))
    return patient_losses(module, data, split.train), patient_losses(module, data, split.test)


def samples_in(dataset: Dataset[Any]) -> int:
    """How many samples there are."""
    return len(dataset)  # type: ignore[arg-type]  # torch's Dataset does not declare __len__


def _alone(module: pl.LightningModule) -> pl.LightningModule:
    """A copy in eval mode that belongs to no Trainer."""
    trainer = module._trainer
    module._trainer = None  # copying it would copy the data too
    try:
        return copy.deepcopy(module).eval()
    finally:
        module._trainer = trainer
