from typing import cast

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fl.batch_norm import batch_norm_entries, batch_norm_modules, freeze_batch_norm
from lightning_fl.fitting import TrainerOptions, reestimate_batch_norm
from tests.toy import ToyModule


def test_layers_are_found_by_type_where_names_would_miss_them() -> None:
    net = smp.Unet("mobilenet_v2", encoder_weights=None)
    found = batch_norm_modules(net)
    assert len(found) == 62
    assert not [name for name in found if "bn" in name.lower() or "norm" in name.lower()]
    assert len(batch_norm_entries(net)) == 5 * 62


def test_top_level_layer_and_sync_batch_norm_are_found() -> None:
    assert batch_norm_entries(nn.BatchNorm1d(2, affine=False)) == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert batch_norm_modules(nn.SyncBatchNorm(2))
    assert not batch_norm_modules(nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2)))


def test_freezing_lasts_until_train_is_called() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    freeze_batch_norm(module)
    assert [m.training for m in module] == [False, True]
    module.train()
    assert module[0].training


class Inputs(ToyModule):
    """BatchNorm right on the inputs, so that the right statistics are known."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))


def test_statistics_become_those_of_the_data_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    module = Inputs()
    weights = {k: v.clone() for k, v in module.named_parameters()}
    x = torch.randn(64, 3) * torch.tensor([1.0, 2.0, 3.0]) + 5
    loader = DataLoader(TensorDataset(x, torch.zeros(64, 1)), batch_size=16)
    reestimate_batch_norm(module, loader, TrainerOptions(local_steps=1, accelerator="cpu"))
    norm = cast(nn.BatchNorm1d, module.net[0])
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    expected = torch.stack([part.var(0) for part in torch.split(x, 16)]).mean(0)
    torch.testing.assert_close(norm.running_var, expected)
    assert norm.momentum == 0.1
    for name, value in module.named_parameters():
        assert torch.equal(value, weights[name])
