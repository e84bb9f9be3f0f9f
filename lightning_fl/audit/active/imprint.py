"""A task that gives images away to whoever chooses its weights, and the choice."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

SCORE = "score"
"""What the task logs in validation."""


class ImprintTask(pl.LightningModule):
    """One linear layer on all pixels, behind which a ReLU decides which images count.

    Args:
        pixels: of an image.
        bins: rows of the layer.
    """

    def __init__(self, pixels: int, bins: int) -> None:
        super().__init__()
        self.layer = nn.Linear(pixels, bins)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the mean over images of the sum of all active rows."""
        rows = torch.relu(self.layer(batch["image"].flatten(1)))
        return rows.sum() / len(rows)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the first row's mean, which with weights of choice is any pixel."""
        self.log(f"val/{SCORE}", self.layer(batch["image"].flatten(1))[:, 0].mean())

    def configure_optimizers(self) -> Any:
        """Return SGD of rate 1, whose update is minus the gradient."""
        return torch.optim.SGD(self.parameters(), lr=1.0)


def imprinting(pixels: int, thresholds: Tensor) -> Tensor:
    """Return weights whose rows count the images above a brightness, one threshold a row.

    The difference of two neighbouring rows of the gradient is the sum of the images between their
    thresholds (Fowl et al. 2022, arXiv 2110.13057).

    Args:
        pixels: of an image.
        thresholds: ascending, shape (bins,).

    Returns:
        The flat vector, shape (bins * pixels + bins,).
    """
    rows = torch.full((len(thresholds), pixels), 1.0 / pixels)
    return torch.cat([rows.flatten(), -thresholds])


def dead(pixels: int, bins: int) -> Tensor:
    """Return weights with which no image counts, so that the update is 0."""
    return torch.cat([torch.zeros(bins * pixels), torch.full((bins,), -1.0)])


def pixel_reading(pixels: int, bins: int, pixel: int) -> Tensor:
    """Return weights with which the score is one pixel."""
    vector = torch.zeros(bins * pixels + bins)
    vector[pixel] = 1.0
    return vector


def read_bins(update: Tensor, pixels: int) -> list[Tensor]:
    """Return the images that an update of imprinting weights shows, each of shape (pixels,).

    Args:
        update: or a sum of updates, shape (bins * pixels + bins,).
        pixels: of an image.
    """
    bins = len(update) // (pixels + 1)
    rows, counts = update[: bins * pixels].reshape(bins, pixels), update[bins * pixels :]
    between = rows[:-1] - rows[1:]
    shares = counts[:-1] - counts[1:]
    kept = shares.abs() > 0.5 * shares.abs().max() * 1e-3
    return [row / share for row, share in zip(between[kept], shares[kept], strict=True)]


def read_single(update: Tensor, pixels: int) -> list[Tensor]:
    """Return the one image that an update of any weights shows; [] where no row was active."""
    bins = len(update) // (pixels + 1)
    rows, counts = update[: bins * pixels].reshape(bins, pixels), update[bins * pixels :]
    row = int(counts.abs().argmax())
    return [rows[row] / counts[row]] if float(counts[row].abs()) > 1e-4 else []


def correlations(guesses: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Return for each true image, (count, pixels), the largest correlation of a guess with it."""
    if not guesses:
        return torch.zeros(len(truth))
    both = torch.corrcoef(torch.cat([truth, torch.stack(list(guesses))]))
    return both[: len(truth), len(truth) :].nan_to_num().amax(1)
