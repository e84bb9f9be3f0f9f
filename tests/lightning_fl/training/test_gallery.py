from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.gallery import draw_gallery
from models import Segmentation

OPTIONS = TrainerOptions(local_steps=1, accelerator="cpu")


def drawn(task: Segmentation, masks: Tensor, count: int) -> dict[str, Tensor]:
    images = torch.arange(len(masks)).view(-1, 1, 1, 1).expand(-1, 1, *masks.shape[-2:]).float()
    samples: Any = [{"image": i, "mask": m} for i, m in zip(images, masks, strict=True)]
    loader = DataLoader(samples, batch_size=2)
    return draw_gallery({"global": task}, loader, count, OPTIONS, lambda shown: shown)


def test_an_image_that_is_ignored_shows_no_foreground() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.long)
    masks[0], masks[1, 0, 0] = 255, 1
    found = drawn(Segmentation(nn.Conv2d(1, 1, 1)), masks, 3)
    assert torch.unique(found["image"]).tolist() == [1]


def test_regions_keep_their_axis() -> None:
    task = Segmentation(nn.Conv2d(1, 2, 1), classes=2, regions=True)
    found = drawn(task, torch.ones(2, 2, 4, 4, dtype=torch.long), 2)
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "image": (2, 1, 4, 4),
        "truth": (2, 2, 4, 4),
        "global": (2, 2, 4, 4),
    }
