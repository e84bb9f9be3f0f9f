from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_fl.data.scans import Mask, Preprocessing, ScanSource, Volume
from lightning_fl.predict.mask_files import mask_files
from lightning_fl.predict.site_models import SiteModels, segment
from lightning_fl.training.fitting import TrainerOptions
from models import Segmentation


class Cube(Volume):
    """Three slices whose values are the logits of the channels."""

    name = "cube"
    spacing = (1.0, 1.0, 1.0)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits  # (Z, classes, H, W)

    def images(self) -> Any:
        return list(self.logits)

    def assemble(self, batches: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(batches)).movedim(0, -1)

    def mask(self, grid: Tensor, threshold: float) -> Mask:
        assert len(grid) == 1  # a region by itself
        return (grid[0] > threshold).to(torch.uint8).numpy()

    def read_mask(self, path: Path) -> Mask:
        raise NotImplementedError

    def axial(self, mask: Mask) -> Mask:
        return mask.transpose(2, 0, 1)

    def picture(self, level: int) -> Tensor:
        raise NotImplementedError

    def save(self, mask: Mask, path: Path) -> None:
        raise NotImplementedError


class Reading(Preprocessing):
    def find(self, source: Path) -> tuple[Path, ...]:
        return (source,)

    def read(self, path: ScanSource) -> Cube:
        logits = torch.full((3, 2, 2, 4), -5.0)
        logits[:, 0] = 5.0  # the first region is everywhere
        logits[:, 1, 0, 0] = 5.0  # three voxels of the second hang together across slices,
        logits[0, 1, 1, 2:] = 5.0  # two others in a slice
        return Cube(logits)


def segmented(**settings: Any) -> Mask:
    task = Segmentation(nn.Identity(), classes=2, regions=True, **settings).eval()
    options = TrainerOptions(local_steps=1, accelerator="cpu")
    site_models = SiteModels("axial", {"global": task}, Reading(), 2, options)
    _, masks = segment([site_models], Path("cube"))
    return masks["global"]["axial"]


def test_overlapping_regions_of_a_scan_are_masks_of_their_own() -> None:
    mask = segmented()
    assert mask.shape == (2, 2, 4, 3)
    assert mask.sum(axis=(1, 2, 3)).tolist() == [24, 5]
    files = mask_files(Reading().read(Path()), mask, Path("out/cube.mask.nii.gz"))
    assert [path.name for path in files] == ["cube.mask.1.nii.gz", "cube.mask.2.nii.gz"]
    assert all(np.array_equal(*pair) for pair in zip(files.values(), mask, strict=True))


def test_the_largest_component_of_a_scan_is_that_in_three_dimensions() -> None:
    mask = segmented(largest_component=True)
    assert mask[1, 0, 0].tolist() == [1, 1, 1]
    assert mask[1].sum() == 3
