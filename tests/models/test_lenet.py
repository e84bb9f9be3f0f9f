import pytest
import torch

from lightning_fl.errors import ConfigError
from models.lenet import LeNet


@pytest.mark.parametrize(("channels", "classes", "size", "width"), [(1, 2, 32, 12), (3, 5, 64, 24)])
def test_images_become_one_logit_for_each_class(
    channels: int, classes: int, size: int, width: int
) -> None:
    net = LeNet(channels, classes, size, width)
    assert net(torch.zeros(3, channels, size, size)).shape == (3, classes)


def test_the_papers_net_starts_uniform_between_minus_and_plus_a_half() -> None:
    torch.manual_seed(0)
    weight = LeNet(1, 2, 32, 12).head.weight
    assert weight.shape == (2, 768)
    assert 0.49 < weight.abs().max() <= 0.5
    assert weight.std().item() == pytest.approx(12**-0.5, rel=0.05)


def test_bounds_shrink_with_the_root_of_the_inputs() -> None:
    torch.manual_seed(0)
    net = LeNet(1, 2, 64, 24)  # 6144 inputs instead of 768, 600 instead of 300
    assert net.head.weight.abs().max().item() == pytest.approx(0.5 / 8**0.5, rel=0.01)
    second = net.body[2].weight
    assert isinstance(second, torch.Tensor)
    assert second.abs().max().item() == pytest.approx(0.5 / 2**0.5, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 0}, "Expected `in_channels` to be at least 1, but got 0"),
        ({"classes": 0}, "Expected `classes` to be at least 1, but got 0"),
        ({"width": -1}, "Expected `width` to be at least 1, but got -1"),
        ({"size": 30}, "Expected `size` to be a multiple of 4, but got 30"),
        ({"size": 0}, "Expected `size` to be a multiple of 4, but got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LeNet(**settings)
