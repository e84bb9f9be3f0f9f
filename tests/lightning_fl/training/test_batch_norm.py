import logging
from pathlib import Path
from typing import cast

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fl.algorithms import FedAvg, Local
from lightning_fl.training.batch_norm import (
    batch_norm_entries,
    batch_norm_modules,
    describe_norm_layers,
    freeze_batch_norm,
    norm_layers,
    reestimate_batch_norm,
)
from lightning_fl.training.fitting import TrainerOptions
from tests.toy import ToyModule, toy_experiment, toy_run


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


class RmsNorm(nn.Module):
    """As other libraries write theirs."""


def test_norm_layers_of_every_kind_are_named() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(2),
        nn.GroupNorm(1, 2),
        nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2)),
        nn.InstanceNorm2d(2),
        nn.InstanceNorm2d(2, track_running_stats=True),
        RmsNorm(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
    )
    assert norm_layers(net) == {
        "BatchNorm2d": ["0"],
        "GroupNorm": ["1", "2.1"],
        "LayerNorm": ["2.0"],
        "InstanceNorm2d without statistics": ["3"],
        "InstanceNorm2d with statistics": ["4"],
        "RmsNorm": ["5"],
    }
    assert describe_norm_layers(net[2]) == "GroupNorm (1, e.g. '1'), LayerNorm (1, e.g. '0')"
    assert describe_norm_layers(nn.Linear(2, 2)) == "none"


class Grouped(ToyModule):
    """GroupNorm where the toy may have BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.GroupNorm(2, 4)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_run_says_once_that_local_batch_norm_without_batch_norm_is_fedavg(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy_run(
        tmp_path, toy_experiment(module=Grouped(), algorithm=FedAvg(batch_norm="local"))
    ).start()
    [said] = [text for text in warnings(caplog) if "BatchNorm" in text]
    assert "it equals `batch_norm: average`" in said
    assert "GroupNorm (1, e.g. 'net.1')" in said
    assert "name them in `personal`" in said


def test_nothing_is_said_where_local_batch_norm_has_an_effect_or_none_is_expected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    FedAvg(batch_norm="local").local_entries(ToyModule(batch_norm=True))
    FedAvg().local_entries(Grouped())
    Local(batch_norm="local").local_entries(Grouped())
    assert not warnings(caplog)
