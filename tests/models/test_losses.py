import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss as MonaiDiceLoss
from torch import Tensor

from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError
from models import DiceCrossEntropy
from models.losses import cross_entropy, dice_loss


def batch(classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 4, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, max(classes, 2), (2, 4, 4), generator=generator)
    return logits, mask


def test_binary_loss_equals_the_formula() -> None:
    logits, mask = batch(1)
    p, t = logits[:, 0].sigmoid(), mask.double()
    dice = 1 - 2 * (p * t).sum() / (p.sum() + t.sum())
    bce = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    loss = DiceCrossEntropy(dice=0.3, cross_entropy=2.0)(logits, mask)
    torch.testing.assert_close(loss, 0.3 * dice + 2.0 * bce)


def test_class_loss_equals_the_formula() -> None:
    logits, mask = batch(3)
    p = logits.softmax(dim=1)
    dice = torch.stack(
        [1 - 2 * p[:, c][mask == c].sum() / (p[:, c].sum() + (mask == c).sum()) for c in (1, 2)]
    ).mean()
    loss = DiceCrossEntropy()(logits, mask)
    torch.testing.assert_close(loss, dice + F.cross_entropy(logits, mask))


def test_dice_equals_monai() -> None:
    logits, mask = batch(1)
    other = MonaiDiceLoss(sigmoid=True, batch=True, smooth_nr=0.0, smooth_dr=1e-7)
    torch.testing.assert_close(dice_loss(logits, mask), other(logits, mask[:, None]))


@pytest.mark.parametrize("classes", [1, 3])
def test_batch_without_foreground_is_left_to_the_cross_entropy(classes: int) -> None:
    logits, mask = batch(classes)
    loss = dice_loss(logits.requires_grad_(), torch.zeros_like(mask))
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("classes", [1, 3])
def test_loss_has_second_derivatives(classes: int) -> None:
    logits, mask = batch(classes)
    logits = logits.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: DiceCrossEntropy()(x, mask), (logits,))


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0)])
def test_weights_must_be_positive(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"to be weights of at least 0.*got -?\d"):
        DiceCrossEntropy(*weights)


@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_are_as_if_they_were_not_there(classes: int) -> None:
    logits, mask = batch(classes)
    shown = DiceCrossEntropy()(logits[..., :3], mask[..., :3])
    mask[..., 3] = IGNORE
    torch.testing.assert_close(DiceCrossEntropy()(logits.requires_grad_(), mask), shown)
    [gradient] = torch.autograd.grad(DiceCrossEntropy()(logits, mask), logits)
    assert not gradient[..., 3].any()


@pytest.mark.parametrize(("classes", "regions"), [(1, False), (3, False), (3, True)])
def test_a_batch_that_is_wholly_ignored_has_no_loss_and_no_gradient(
    classes: int, regions: bool
) -> None:
    logits, mask = batch(classes)
    truth = torch.full_like(logits if regions else mask, IGNORE, dtype=torch.long)
    loss = DiceCrossEntropy()(logits.requires_grad_(), truth)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_cross_entropy_of_a_batch_is_the_mean_of_its_images_whatever_they_ignore() -> None:
    logits, mask = batch(3)
    mask[0, 1:] = IGNORE
    single = [cross_entropy(logits[[n]], mask[[n]]) for n in range(2)]
    torch.testing.assert_close(cross_entropy(logits, mask), sum(single) / 2)


def test_loss_of_regions_is_the_mean_of_their_binary_losses() -> None:
    logits, _ = batch(2)
    regions = torch.stack([batch(1)[1], 1 - batch(1)[1]], dim=1)
    single = [DiceCrossEntropy()(logits[:, [n]], regions[:, n]) for n in range(2)]
    torch.testing.assert_close(DiceCrossEntropy()(logits, regions), sum(single) / 2)
