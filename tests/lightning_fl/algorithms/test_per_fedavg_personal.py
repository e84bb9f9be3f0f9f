"""Per-FedAvg under local BatchNorm and with layers that stay at the site."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.algorithms import PerFedAvg
from tests.lightning_fl.algorithms.by_hand import assert_close, federation_by_hand, sgd, toy_states
from tests.toy import ToyModule

ALPHA = 0.05
SIZE = 4
"""Samples of D and of D'; the toy's batches hold both."""


@torch.no_grad()
def put(module: ToyModule, state: dict[str, Any], *, buffers: bool) -> None:
    parameters = dict(module.named_parameters())
    for name, value in state.items():
        if buffers != (name in parameters):
            module.state_dict()[name].copy_(value)


def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
    """Every layer makes the inner and the outer step; statistics follow D' at w~ alone."""
    optimizer, weights = sgd(module, list(module.parameters())), list(module.parameters())
    for x, y in batches:
        start = {name: value.clone() for name, value in module.state_dict().items()}
        inner = torch.autograd.grad(module.loss((x[SIZE:], y[SIZE:])), weights)
        put(module, start, buffers=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, inner, strict=True):
                weight.sub_(ALPHA * gradient)
        optimizer.zero_grad()
        torch.autograd.backward(module.loss((x[:SIZE], y[:SIZE])))
        put(module, start, buffers=False)
        optimizer.step()


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({"batch_norm": "local"}, {"net.1"}),
        ({"personal": ["3"]}, {"net.3"}),
        ({"batch_norm": "local", "personal": ["3"]}, {"net.1", "net.3"}),
        ({"batch_norm": "local", "personal": ["3"], "shared_rounds": 1}, {"net.1", "net.3"}),
    ],
)
def test_layers_that_stay_take_both_steps_and_differ_between_sites(
    tmp_path: Path, settings: dict[str, Any], stays: set[str]
) -> None:
    run, states = toy_states(tmp_path, PerFedAvg(ALPHA, **settings))
    assert_close(states, federation_by_hand(run, local_round), atol=2e-5)
    a, b, _ = states.values()
    differing = {name[:5] for name in a if not torch.equal(a[name], b[name])}
    assert differing == stays
