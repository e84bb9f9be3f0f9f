"""Samples that say which case they show: the case is the patient."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset, default_collate

from lightning_fl.errors import ConfigError

CASE = "case"
"""The entry of a sample, or of a batch, that holds the numbers of cases."""
ORIGINAL = "original"
"""The entry that holds masks as their files have them, where `mask` is resized; a batch has a list.

A data module gives it for evaluation alone. Scores, and distances by `pixel_size`, are of it.
"""


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


def collate_cases(samples: Sequence[Any]) -> Any:
    """Batch samples; masks before resizing stay a list, since their sizes may differ."""
    if not (isinstance(samples[0], Mapping) and ORIGINAL in samples[0]):
        return default_collate(list(samples))
    others = [{k: v for k, v in sample.items() if k != ORIGINAL} for sample in samples]
    return {**default_collate(others), ORIGINAL: [sample[ORIGINAL] for sample in samples]}
