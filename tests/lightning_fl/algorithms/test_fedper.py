from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from lightning_fl.algorithms import Algorithm, FedAvg, FedPer, FedProx, Local, PerFedAvg
from tests.lightning_fl.algorithms.by_hand import (
    assert_close,
    assert_equal,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.toy import ToyModule

HEAD = {"net.3.weight", "net.3.bias"}


def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
    optimizer = sgd(module, list(module.parameters()))
    for batch in batches:
        optimizer.zero_grad()
        torch.autograd.backward(module.loss(batch))
        optimizer.step()


def test_it_equals_a_hand_written_federation(tmp_path: Path) -> None:
    run, states = toy_states(tmp_path, FedPer(personal=["3"]))
    assert_close(states, federation_by_hand(run, local_round))


def test_no_personal_layer_equals_fedavg(tmp_path: Path) -> None:
    _, found = toy_states(tmp_path / "per", FedPer(personal=()))
    _, expected = toy_states(tmp_path / "avg", FedAvg())
    assert_equal(found, expected)


def test_a_round_of_one_site_equals_local_training(tmp_path: Path) -> None:
    one: dict[str, Any] = {"rounds": 1, "sites_per_round": 1, "min_sites": 1}
    run, found = toy_states(tmp_path / "per", FedPer(personal=["3"]), **one)
    _, expected = toy_states(tmp_path / "local", Local(), **one)
    assert run.blueprint.layout.length
    assert len(found) == 1
    assert_close(found, expected)  # an update is a difference, which rounds


@pytest.mark.parametrize(
    "algorithm",
    [
        FedPer(personal=["3"]),
        FedAvg(personal=["3"]),
        FedProx(0.1, personal=["3"]),
        PerFedAvg(0.01, personal=["3"], batch_norm="local"),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_heads_stay_and_differ_while_the_rest_is_one(tmp_path: Path, algorithm: Algorithm) -> None:
    run, states = toy_states(tmp_path, algorithm)
    assert not HEAD & {name for name, _ in run.blueprint.layout.shared}
    assert set(run.blueprint.layout.private) >= HEAD
    a, b, c = states.values()
    assert not torch.equal(a["net.3.weight"], b["net.3.weight"])
    assert not torch.equal(b["net.3.weight"], c["net.3.weight"])
    for name, _ in run.blueprint.layout.shared:
        assert torch.equal(a[name], b[name])


def test_local_batch_norm_and_personal_layers_unite() -> None:
    module = ToyModule(batch_norm=True)
    both = FedPer(personal=["3"], batch_norm="local").local_entries(module)
    assert both == HEAD | FedAvg(batch_norm="local").local_entries(module)


def test_the_default_is_the_head_of_smps_nets() -> None:
    net = smp.Unet("mobilenet_v2", encoder_weights=None)
    names = {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    assert FedPer().local_entries(net) == names
