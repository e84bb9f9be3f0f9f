import monai.transforms as mt
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from lightning_fl.data.augmentation import augmented, augmented_labelled
from lightning_fl.data.module import LabelledSample, Sample
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
    with pytest.raises(ConfigError, match=r"shape \(1, 16, 40\), mask"):
        augmented(sample(), other_size)


def labelled() -> LabelledSample:
    return LabelledSample(image=sample()["image"], label=torch.tensor(1))


KEYS = ("image", "mask")


def test_monai_moves_image_and_mask_alike() -> None:
    torch.manual_seed(0)
    flip = mt.RandFlipd(KEYS, prob=1.0, spatial_axis=1)
    turn = mt.RandAffined(KEYS, prob=1.0, rotate_range=0.5, mode=("bilinear", "nearest"))
    result = augmented(sample(), mt.Compose([flip]))
    assert torch.equal(result["image"], sample()["image"].flip(-1))
    assert torch.equal(result["mask"], sample()["mask"].flip(-1))
    turned = augmented(sample(), mt.Compose([turn, mt.RandGaussianNoised(["image"], prob=1.0)]))
    assert type(turned["image"]) is type(turned["mask"]) is Tensor
    assert (turned["image"].dtype, turned["mask"].dtype) == (torch.float32, torch.int64)
    assert not torch.equal(turned["mask"], sample()["mask"])
    close = (turned["image"][0] * 2).round() == turned["mask"]
    assert close.float().mean() > 0.7


def test_regions_move_with_the_image() -> None:
    regions = torch.stack([sample()["mask"] > 0, sample()["mask"] > 1]).long()
    both = Sample(image=sample()["image"], mask=regions)
    for transform in (mt.RandFlipd(KEYS, prob=1.0, spatial_axis=1), v2.RandomHorizontalFlip(1.0)):
        assert torch.equal(augmented(both, transform)["mask"], regions.flip(-1))


def test_monai_draws_from_the_seed_of_torch() -> None:
    transform = mt.Compose([mt.RandGaussianNoised(["image"], prob=1.0)])
    images = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        images.append(augmented(sample(), transform)["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_mixed_classes_are_refused() -> None:
    bilinear = mt.RandAffined(KEYS, prob=1.0, rotate_range=(0.5, 0.6), mode="bilinear")
    with pytest.raises(ConfigError, match=r"mixes the classes of a mask.*nearest"):
        augmented(sample(), bilinear)


def test_key_that_is_not_there_is_named() -> None:
    for transform in (mt.RandFlipd(["image", "seg"], prob=1.0), mt.RandFlip(prob=1.0)):
        with pytest.raises(ConfigError, match=r"keys \['image', 'mask'\].*RandFlipd"):
            augmented(sample(), mt.Compose([transform]))


def test_labelled_images_are_transformed_and_keep_their_label() -> None:
    for transform in (
        v2.RandomHorizontalFlip(p=1.0),
        mt.Compose([mt.RandFlipd(["image"], prob=1.0, spatial_axis=1)]),
    ):
        result = augmented_labelled(labelled(), transform)
        assert torch.equal(result["image"], sample()["image"].flip(-1))
        assert result["label"] == 1


def test_labelled_image_that_is_lost_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"image with a label.*shape \(40,\)"):
        augmented_labelled(labelled(), lambda image: image[0, 0])


def test_albumentations_moves_image_mask_and_regions_alike() -> None:
    alb = pytest.importorskip("albumentations")
    flip = alb.Compose([alb.HorizontalFlip(p=1.0)])
    result = augmented(sample(), flip)
    assert torch.equal(result["image"], sample()["image"].flip(-1))
    assert torch.equal(result["mask"], sample()["mask"].flip(-1))
    regions = torch.stack([sample()["mask"] > 0, sample()["mask"] > 1]).long()
    both = augmented(Sample(image=sample()["image"], mask=regions), flip)
    assert torch.equal(both["mask"], regions.flip(-1))
    assert torch.equal(augmented_labelled(labelled(), flip)["image"], sample()["image"].flip(-1))
