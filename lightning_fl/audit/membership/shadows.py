"""Shadow models: trained as a run's models were, on patients that the attacker knows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch.utils.data import ConcatDataset, DataLoader

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.training.fitting import TrainerOptions, fit
from lightning_fl.training.lazy_layers import with_lazy_layers_built
from lightning_fl.training.progress import Progress


class AuditedPatient(NamedTuple):
    """A patient of whom an attacker asks whether a model was trained on them."""

    site: str
    patient: str
    member: bool


def train_shadow(
    run: FinishedRun,
    data: FederatedDataModule,
    patients: Sequence[AuditedPatient],
    *,
    seed: int,
    split_seed: int,
) -> pl.LightningModule:
    """Train the run's task anew on some patients of all hospitals together.

    It makes as many steps as a site made in all rounds, with the task's own optimiser and the run's
    Trainer. The federated method and differential privacy play no part. `seed` decides first
    weights and batches, `split_seed` is the run's.
    """
    by_site: dict[str, list[str]] = {}
    for patient in patients:
        by_site.setdefault(patient.site, []).append(patient.patient)
    pooled: ConcatDataset[Any] = ConcatDataset(
        data.for_site(site, split_seed).for_patients(names).dataset(site, names, augment=True)
        for site, names in by_site.items()
    )
    loader = DataLoader(
        pooled,
        batch_size=data.batch_size,
        shuffle=True,
        drop_last=len(pooled) >= data.batch_size,  # one sample alone breaks BatchNorm
        generator=torch.Generator().manual_seed(seed),
    )
    module = with_lazy_layers_built(run.fresh_task(seed), loader, seed)
    fit(module, loader, [], _whole_run(run), Progress())
    return module


def _whole_run(run: FinishedRun) -> TrainerOptions:
    """Return the options of a site's training in all rounds, in one go."""
    options, rounds = run.options(), int(run.config["rounds"])
    if options.local_steps is not None:
        return options.for_steps(options.local_steps * rounds)
    return replace(options, local_epochs=(options.local_epochs or 1) * rounds)
