import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.ensemble import average_outputs
from lightning_fl.personalisation.mirror import mirrored
from lightning_fl.personalisation.rebuild import rebuild
from models import Segmentation
from tests.toy import ToyModule


def make_task(seed: int) -> Segmentation:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    return Segmentation(net).eval()


def kinds() -> list[pl.LightningModule]:
    one, other = make_task(1), make_task(2)
    pair = average_outputs([copy.deepcopy(one), copy.deepcopy(other)])
    of_mirrored = average_outputs([mirrored(one), mirrored(other)])
    return [one, mirrored(one), pair, of_mirrored, mirrored(pair), mirrored(mirrored(one))]


@pytest.mark.parametrize(
    "number", range(6), ids=["plain", "mirror", "pair", "of mirrored", "mirrored pair", "twice"]
)
def test_a_rebuilt_model_gives_the_same_outputs(number: int) -> None:
    model, template = kinds()[number].eval(), make_task(3)
    image = torch.randn(2, 1, 8, 8)
    found = rebuild(template, model.state_dict()).eval()
    assert torch.equal(found(image), model(image))
    assert not torch.equal(template(image), model(image))


def test_a_task_without_a_net_that_is_a_module_is_loaded_as_it_is() -> None:
    model = ToyModule()
    x = torch.randn(4, 3)
    rebuilt = rebuild(ToyModule(), model.state_dict())
    assert torch.equal(rebuilt.get_submodule("net")(x), model.net(x))


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not belong to the run's network"):
        rebuild(make_task(1), {"net.other.weight": torch.zeros(1)})
