"""Synthetic chest CT slices with a label in place of a mask: is there an infection in it?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.phantoms.chest_phantoms import ChestPhantoms
from lightning_fl.data.module import LabelledSample, Sample
from lightning_fl.errors import ConfigError


class LabelledPhantoms(ChestPhantoms):
    """The slices of `ChestPhantoms`, for tasks that classify single images.

    The label is 1 where the reader has marked an infection on the slice, else 0.

    Args:
        **kwargs: settings of `ChestPhantoms`, but no `augment`, which is for masks.

    Raises:
        ConfigError: a setting is out of range or unknown, or there is an augmentation.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.augment is not None:
            raise ConfigError(
                "`augment` transforms images with masks, but LabelledPhantoms has labels. Set it "
                "to null."
            )

    def dataset(  # type: ignore[override]  # another kind of sample, for another kind of task
        self, site: str, patients: Sequence[str], *, augment: bool
    ) -> Dataset[LabelledSample]:
        """Return all slices of some patients, from top to bottom, patient by patient."""
        return _Labelled(super().dataset(site, patients, augment=False))


class _Labelled(Dataset[LabelledSample]):
    """Slices whose masks have become labels."""

    def __init__(self, slices: Dataset[Sample]) -> None:
        self.slices = slices

    def __len__(self) -> int:
        return len(self.slices)  # type: ignore[arg-type]  # torch's Dataset has no __len__

    def __getitem__(self, index: int) -> LabelledSample:
        sample = self.slices[index]
        return LabelledSample(image=sample["image"], label=torch.tensor(int(sample["mask"].any())))
