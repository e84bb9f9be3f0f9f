from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from datamodules import ChestPhantoms, LabelledPhantoms
from lightning_fl.errors import ConfigError


def test_labels_say_whether_the_reader_marked_anything(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "sites": 1,
        "patients": 4,
        "slices": 8,
        "size": 32,
        "cache_dir": str(tmp_path),
    }
    masks, slices = (
        kind(**settings).for_site("A", 0).dataset("A", ["A-000", "A-001", "A-003"], augment=False)
        for kind in (ChestPhantoms, LabelledPhantoms)
    )
    labels = set()
    for number in range(24):
        sample, expected = slices[number], masks[number]
        assert sorted(sample) == ["image", "label"]
        assert torch.equal(sample["image"], expected["image"])
        assert int(sample["label"]) == int(expected["mask"].any())  # type: ignore[typeddict-item]
        labels.add(int(sample["label"]))  # type: ignore[typeddict-item]
    assert labels == {0, 1}


def test_batches_hold_labels(tmp_path: Path) -> None:
    data = LabelledPhantoms(
        sites=1, patients=3, slices=4, size=32, batch_size=4, cache_dir=str(tmp_path)
    )
    batch = next(iter(data.for_site("A", 0).train_loader()))
    assert batch["label"].dtype == torch.int64
    assert batch["label"].shape == (4,)


def test_an_augmentation_is_refused() -> None:
    with pytest.raises(ConfigError, match="`augment` transforms images with masks"):
        LabelledPhantoms(augment=v2.RandomHorizontalFlip())
