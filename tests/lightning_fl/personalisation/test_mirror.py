import pytest
import torch
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Mirror
from lightning_fl.personalisation.mirror import MirrorNet, mirrored
from models import Segmentation
from tests.toy import ToyModule


def make_task(classes: int = 1) -> Segmentation:
    torch.manual_seed(0)
    return Segmentation(nn.Conv2d(1, classes, 3, padding=1), classes=classes).eval()


@pytest.mark.parametrize("classes", [1, 3])
def test_it_averages_probabilities_of_an_image_and_its_mirror_image(classes: int) -> None:
    task, image = make_task(classes), torch.randn(2, 1, 8, 8)
    to_probabilities, _ = task.output_maps()
    seen, turned = (to_probabilities(task.net(x)) for x in (image, image.flip(-1)))
    found = to_probabilities(mirrored(task)(image))
    torch.testing.assert_close(found, (seen + turned.flip(-1)) / 2)
    assert not torch.allclose(seen, turned.flip(-1), atol=1e-3)


def test_a_mirrored_image_gives_the_mirrored_mask() -> None:
    task, image = mirrored(make_task()), torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(task(image.flip(-1)), task(image).flip(-1))


def test_outputs_without_places_are_not_turned() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    same: nn.Module = MirrorNet(net, lambda x: x, lambda x: x)
    image = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(same(image), (net(image) + net(image.flip(-1))) / 2)


def test_the_model_itself_is_left_alone() -> None:
    task = make_task()
    before = task(torch.ones(1, 1, 4, 4))
    assert isinstance(mirrored(task).net, MirrorNet)
    assert torch.equal(task(torch.ones(1, 1, 4, 4)), before)


def test_a_task_that_does_not_say_what_its_outputs_mean_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Mirror averages .* no method `output_maps\(\)`"):
        Mirror().check(ToyModule(), [])
