"""A few test images of a site with the truth and each model's prediction, for the report."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.module import IGNORE
from lightning_fl.training.fitting import TrainerOptions, make_trainer


def draw_gallery(
    models: Mapping[str, pl.LightningModule],
    loader: DataLoader[Any],
    count: int,
    options: TrainerOptions,
    shown: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Pick test images with foreground, spread over the test set, and predict them.

    This works for tasks whose batches are {"image", "mask"} and whose `predict_step` gives masks.
    The loader has a fixed order. `shown` turns images (N, C, H, W) as the models see them into what
    the report shows.

    Returns:
        `image` float32 (N, C, H, W), `truth` uint8 (N, H, W) and a uint8 (N, H, W) mask for each
        model, or (N, R, H, W) of overlapping regions; empty where the task cannot be shown.
    """
    batch = _pick(loader, count)
    if not batch:
        return {}
    tensors = {"image": shown(batch["image"]), "truth": batch["mask"].to(torch.uint8)}
    for name, module in models.items():
        if type(module).predict_step is pl.LightningModule.predict_step:
            return {}
        dataset: Any = [batch]  # a list is a dataset to torch
        alone = DataLoader(dataset, batch_size=None)
        [prediction] = make_trainer(options).predict(module, alone) or [None]
        if not isinstance(prediction, Tensor) or prediction.shape != batch["mask"].shape:
            return {}
        tensors[name] = prediction.to(torch.uint8).cpu()
    return tensors


def _pick(loader: DataLoader[Any], count: int) -> dict[str, Tensor]:
    """Batch `count` samples with foreground, evenly spaced in the loader's order."""
    positions: list[int] = []
    offset = 0
    for batch in loader:
        if not isinstance(batch, Mapping) or not {"image", "mask"} <= set(batch):
            return {}
        shows_foreground = (batch["mask"] % IGNORE).flatten(1).any(dim=1)
        positions += (shows_foreground.nonzero().flatten() + offset).tolist()
        offset += len(batch["mask"])
    if not positions or count < 1:
        return {}
    spaced = torch.linspace(0, len(positions) - 1, min(count, len(positions))).round().int()
    samples = [loader.dataset[positions[int(i)]] for i in spaced]
    return {key: torch.stack([sample[key] for sample in samples]) for key in ("image", "mask")}
