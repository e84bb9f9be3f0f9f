"""A few test images of a site with the truth and each model's prediction, for the report."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_fl.training.fitting import TrainerOptions, make_trainer

Batch = dict[str, Tensor]


def draw_gallery(
    models: Mapping[str, pl.LightningModule],
    loader: DataLoader[Any],
    count: int,
    options: TrainerOptions,
    shown: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Pick test images with foreground, spread over the test set, and predict them.

    Only for tasks whose batches are {"image", "mask"} and that have a `predict_step` giving masks.

    Args:
        models: by the name they get in the gallery.
        loader: test batches in a fixed order.
        count: images at most.
        options: of the run's Trainer.
        shown: what is shown of the images (N, C, H, W) that the models see.

    Returns:
        `image` float32 (N, C, H, W), `truth` uint8 (N, H, W) and a uint8 (N, H, W) mask for each
        model; empty where the task cannot be shown.
    """
    picked = _pick(loader, count)
    if picked is None:
        return {}
    batch = {"image": picked[0], "mask": picked[1]}
    tensors = {"image": shown(picked[0]), "truth": picked[1].to(torch.uint8)}
    for name, module in models.items():
        if type(module).predict_step is pl.LightningModule.predict_step:
            return {}
        trainer = make_trainer(options)
        [prediction] = trainer.predict(module, DataLoader(_one(batch), batch_size=None)) or [None]
        if not isinstance(prediction, Tensor) or prediction.shape != batch["mask"].shape:
            return {}
        tensors[name] = prediction.to(torch.uint8).cpu()
    return tensors


def _one(batch: Batch) -> Dataset[Batch]:
    return [batch]  # type: ignore[return-value]  # a list is a dataset to torch


def _pick(loader: DataLoader[Any], count: int) -> tuple[Tensor, Tensor] | None:
    """Images and masks of `count` samples with foreground, evenly spaced in the loader's order."""
    positions: list[int] = []
    offset = 0
    for batch in loader:
        if not isinstance(batch, Mapping) or not {"image", "mask"} <= set(batch):
            return None
        found = batch["mask"].flatten(1).any(dim=1).nonzero().flatten()
        positions += (found + offset).tolist()
        offset += len(batch["mask"])
    if not positions or count < 1:
        return None
    spaced = torch.linspace(0, len(positions) - 1, min(count, len(positions))).round().int()
    chosen = [loader.dataset[positions[int(i)]] for i in spaced]
    return torch.stack([c["image"] for c in chosen]), torch.stack([c["mask"] for c in chosen])
