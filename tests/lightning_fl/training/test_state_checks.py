from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.training.layout import make_layout
from lightning_fl.training.state_checks import check_state, is_finite
from tests.toy import ToyModule, toy_experiment, toy_run


class ExtraState(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"calls": 3}


class Masked(nn.Module):
    """Has a constant mask of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.LazyLinear(3), "Entry 'weight' belongs to a lazy layer .* constructor"),
        (ExtraState(2, 2), "Entry '_extra_state' is extra state .*dict.* buffer"),
        (
            nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2))),
            "'0' .*parametrizations.weight_norm",
        ),
        (
            nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2))),
            "'0' .*parametrizations.spectral_norm",
        ),
        (nn.Linear(2, 2, dtype=torch.complex64), "is complex"),
    ],
)
def test_a_state_without_a_mean_is_refused_with_the_remedy(net: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_state(net)


def test_parametrised_weight_norm_is_taken() -> None:
    check_state(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))


def test_a_mask_with_infinities_stays_at_the_site_and_is_no_divergence() -> None:
    net = Masked()
    layout = make_layout(net)
    assert "mask" in layout.private
    assert "mask" not in dict(layout.shared)
    assert is_finite(net)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("entry", ["layer.weight", "norm.running_var"])
def test_a_weight_or_statistic_that_is_not_finite_is_divergence(entry: str, value: float) -> None:
    net = Masked()
    net.state_dict()[entry].view(-1)[0] = value
    assert not is_finite(net)


class Growing(ToyModule):
    """Makes another layer in its first forward pass."""

    def loss(self, batch: Any) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(2, 2)
        return super().loss(batch)


def test_a_net_that_changes_its_state_when_it_is_first_used_is_refused(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(module=Growing()))
    with pytest.raises(SiteError, match=r"changes 2 entries of its state_dict .*'late.bias'") as e:
        run.validate()
    assert e.value.op == "describe"
