"""Poisson sampling: each sample is in each batch with the same probability, by itself."""

import secrets
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler


class PoissonBatches(Sampler[list[int]]):
    """Batches of random size; nobody can foretell who is in them.

    In an empty batch one sample stands in, because a net wants an image. What it contributes has to
    be taken out of that step (see `empty`).

    Args:
        samples: how many there are.
        rate: probability of each.

    Attributes:
        empty: for each batch that was drawn and not used yet, in order, whether nobody is in it.
    """

    def __init__(self, samples: int, rate: float) -> None:
        self.samples = samples
        self.rate = rate
        self.empty: deque[bool] = deque()

    def __len__(self) -> int:
        """Return the batches in a pass: as many as draw each sample once, on average."""
        return max(1, round(1 / self.rate))

    def __iter__(self) -> Iterator[list[int]]:
        self.empty.clear()
        for _ in range(len(self)):
            words = np.frombuffer(secrets.token_bytes(8 * self.samples), dtype="<u8")
            drawn = np.flatnonzero((words >> np.uint64(11)) * 2.0**-53 < self.rate).tolist()
            self.empty.append(not drawn)
            yield drawn or [0]


def poisson_loader(loader: DataLoader[Any]) -> tuple[DataLoader[Any], PoissonBatches]:
    """Return a loader of the same samples, in batches as large on average as those of `loader`."""
    samples = len(loader.dataset)  # type: ignore[arg-type]  # torch's Dataset declares no __len__
    batches = PoissonBatches(samples, min(1.0, (loader.batch_size or 1) / samples))
    drawn = DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )
    return drawn, batches
