"""Small modules to attack, and images that look like something."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.lenet import LeNet


class Classifier(pl.LightningModule):
    """Cross-entropy on `label`; with one output the sigmoid's."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.net(batch["image"])
        label = batch["label"]
        if logits.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(logits, label.to(logits).view(-1, 1))
        else:
            loss = F.cross_entropy(logits, label)
        self.log("train/loss", loss)
        return loss


def lenet_classifier(seed: int = 0, classes: int = 2, size: int = 16) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(LeNet(1, classes, size))


def pictures(count: int = 1, size: int = 16) -> Tensor:
    """Bright discs on darker slopes, (count, 1, size, size), each in another place."""
    line = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    found = []
    for number in range(count):
        x, y = 0.4 * torch.tensor(2.4 * number).cos(), 0.4 * torch.tensor(2.4 * number).sin()
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < 0.2).float()
        found.append(0.3 + 0.2 * rows * (-1) ** number + 0.4 * disc)
    return torch.stack(found)[:, None]
