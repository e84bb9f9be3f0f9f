"""A tiny LightningModule and batches with known answers, shared by tests."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class ToyModule(pl.LightningModule):
    """A small regression net with BatchNorm, trained by plain SGD."""

    def __init__(
        self, *, lr: float = 0.1, batch_norm: bool = False, width: int = 4, momentum: float = 0.0
    ) -> None:
        super().__init__()
        norm: nn.Module = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.net = nn.Sequential(nn.Linear(3, width), norm, nn.Tanh(), nn.Linear(width, 1))
        self.lr = lr
        self.momentum = momentum
        self.seen: list[int] = []

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        self.seen.append(len(batch[0]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


def toy_data(samples: int = 24, seed: int = 0) -> TensorDataset:
    """Inputs (samples, 3) and targets (samples, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=generator)
    return TensorDataset(x, x.square().sum(1, keepdim=True) + x[:, :1])


def toy_loader(batch_size: int, samples: int = 24, seed: int = 0) -> DataLoader[Any]:
    """Batches in a fixed order."""
    return DataLoader(toy_data(samples, seed), batch_size=batch_size)


def quiet_trainer(**settings: Any) -> pl.Trainer:
    """A Trainer on the CPU that writes nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**(defaults | settings))
