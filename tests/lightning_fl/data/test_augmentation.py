import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_fl.data.augmentation import augmented
from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError


def sample() -> Sample:
    """A mask of three classes, and an image that shows it."""
    mask = torch.zeros(32, 40, dtype=torch.int64)
    mask[4:20, 6:18], mask[10:16, 20:36] = 1, 2
    return Sample(image=mask[None].to(torch.float32) / 2, mask=mask)


def test_flip_moves_image_and_mask_alike() -> None:
    result = augmented(sample(), v2.RandomHorizontalFlip(p=1.0))
    assert torch.equal(result["image"], sample()["image"].flip(-1))
    assert torch.equal(result["mask"], sample()["mask"].flip(-1))


def test_affine_keeps_them_aligned_and_classes_whole() -> None:
    torch.manual_seed(0)
    transform = v2.RandomAffine(degrees=(20, 30), translate=(0.1, 0.1), scale=(0.9, 1.1))
    result = augmented(sample(), transform)
    assert set(result["mask"].flatten().tolist()) == {0, 1, 2}
    assert not torch.equal(result["mask"], sample()["mask"])
    assert torch.equal((result["image"][0] * 2).round().long(), result["mask"])


def test_result_is_plain_tensors_of_the_sample_types() -> None:
    result = augmented(sample(), v2.Compose([v2.GaussianBlur(3), v2.ToDtype(torch.float64)]))
    assert type(result["image"]) is Tensor
    assert type(result["mask"]) is Tensor
    assert result["image"].dtype == torch.float32
    assert result["mask"].dtype == torch.int64


def test_intensities_change_in_the_image_only() -> None:
    result = augmented(sample(), v2.ColorJitter(brightness=(0.5, 0.5)))
    torch.testing.assert_close(result["image"], sample()["image"] / 2)
    assert torch.equal(result["mask"], sample()["mask"])


def test_sample_itself_is_not_changed() -> None:
    original = sample()
    augmented(original, v2.RandomVerticalFlip(p=1.0))
    assert torch.equal(original["mask"], sample()["mask"])


def image_only(image: tv_tensors.Image, mask: tv_tensors.Mask) -> Tensor:
    return torch.clone(image)


def other_size(image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[Tensor, Tensor]:
    return image[:, ::2], mask


def test_transform_without_a_fitting_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returned a tensor of shape \(1, 32, 40\)"):
        augmented(sample(), image_only)
    with pytest.raises(ConfigError, match=r"shape \(1, 16, 40\), a tensor"):
        augmented(sample(), other_size)


def test_regions_are_moved_with_their_image() -> None:
    image, mask = torch.rand(1, 4, 6), torch.randint(0, 2, (3, 4, 6))
    found = augmented({"image": image, "mask": mask}, v2.RandomHorizontalFlip(p=1))
    assert torch.equal(found["image"], image.flip(-1))
    assert torch.equal(found["mask"], mask.flip(-1))
