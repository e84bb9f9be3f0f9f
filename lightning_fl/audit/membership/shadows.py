"""Shadow models: trained as a run's models were, on patients that are known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from lightning_fl.audit.membership.sample_losses import samples_in
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.training.fitting import Progress, TrainerOptions, fit


class Candidate(NamedTuple):
    """A patient of whom an attacker asks whether a model was trained on them."""

    site: str
    patient: str
    member: bool


def train_shadow(
    run: FinishedRun,
    data: FederatedDataModule,
    patients: Sequence[Candidate],
    *,
    seed: int,
    split_seed: int,
) -> pl.LightningModule:
    """Train the run's task anew on some patients of all hospitals together.

    It makes as many steps as a site made in all rounds, with the task's own optimiser and the run's
    Trainer; the federated method and differential privacy play no part.

    Args:
        run: whose settings give task, Trainer and rounds.
        data: of the run, bound to no hospital.
        patients: to train on.
        seed: of first weights and batches.
        split_seed: of the run.
    """
    module = run.fresh_task(seed)
    parts = [
        data.for_site(site, split_seed).dataset(
            site, [one.patient for one in patients if one.site == site], augment=True
        )
        for site in dict.fromkeys(one.site for one in patients)
    ]
    pooled: Dataset[Any] = ConcatDataset(parts)
    loader = DataLoader(
        pooled,
        batch_size=data.batch_size,
        shuffle=True,
        drop_last=samples_in(pooled) >= data.batch_size,  # one sample alone breaks BatchNorm
        generator=torch.Generator().manual_seed(seed),
    )
    fit(module, loader, [], _whole_run(run), Progress())
    return module


def _whole_run(run: FinishedRun) -> TrainerOptions:
    """A site's training in all rounds, in one go."""
    options, rounds = run.options(), int(run.config["rounds"])
    if options.local_steps is not None:
        return options.for_steps(options.local_steps * rounds)
    return replace(options, local_epochs=(options.local_epochs or 1) * rounds)
