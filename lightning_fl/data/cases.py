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

A dataset gives them by a method `original(index)`, which evaluation alone calls. Scores, and
distances by `pixel_size`, are of these masks.
"""


class NumberedCase(Dataset[Any]):
    """Add the number of one case to its samples; a sample that is no mapping stays as it is.

    Where they are resized, their masks as the files have them are added as `original`.

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
        numbered = {**sample, CASE: torch.tensor(self.number)}
        if original := getattr(self.samples, "original", None):
            numbered[ORIGINAL] = original(index)
        return numbered


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
