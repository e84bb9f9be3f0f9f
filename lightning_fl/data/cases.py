"""Samples that say which case they show: the case is the patient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset

from lightning_fl.errors import ConfigError

CASE = "case"
"""The entry of a sample, or of a batch, that holds the numbers of cases."""


class NumberedCase(Dataset[Any]):
    """Add the number of one case to its samples; a sample that is no mapping stays as it is.

    Args:
        samples: of the case.
        number: int64 scalar that each sample gets as `case`.
    """

    def __init__(self, samples: Dataset[Any], number: int) -> None:
        self.samples = samples
        self.number = number

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]  # torch's Dataset has no __len__

    def __getitem__(self, index: int) -> Any:
        sample = self.samples[index]
        if not isinstance(sample, Mapping):
            return sample
        if CASE in sample:
            raise ConfigError(
                f"A sample has the entry {CASE!r}, which the loader adds to say which patient it "
                "shows. Give it another name in the data module."
            )
        return {**sample, CASE: torch.tensor(self.number)}


def number_cases(datasets: Iterable[Dataset[Any]]) -> Dataset[Any]:
    """Chain the datasets of several cases; each sample gets the place of its own as `case`."""
    numbered = [NumberedCase(samples, number) for number, samples in enumerate(datasets)]
    nothing: Any = []  # a list is a dataset to torch
    return ConcatDataset(numbered) if numbered else nothing
