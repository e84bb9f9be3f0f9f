import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from callbacks import FederatedCallback
from lightning_fl.algorithms import FedAvg, FedProx
from lightning_fl.algorithms.fedprox import add_proximal_gradient
from lightning_fl.errors import ConfigError
from tests.lightning_fl.algorithms.by_hand import (
    assert_close,
    assert_equal,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.toy import ToyModule, quiet_trainer, toy_loader

MU = 0.5


def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
    """Training on h_k as equation 2 writes it; layer 1 (BatchNorm) is not held."""
    optimizer = sgd(module, list(module.parameters()))
    held = [p for name, p in module.named_parameters() if not name.startswith("net.1.")]
    origin = copy.deepcopy(held)
    for batch in batches:
        optimizer.zero_grad()
        distance = sum((w - o).square().sum() for w, o in zip(held, origin, strict=True))
        torch.autograd.backward(module.loss(batch) + MU / 2 * distance)
        optimizer.step()


def test_it_equals_a_hand_written_federation(tmp_path: Path) -> None:
    run, states = toy_states(tmp_path, FedProx(MU, batch_norm="local"))
    assert_close(states, federation_by_hand(run, local_round))


@pytest.mark.parametrize("batch_norm", ["average", "local", "freeze"])
def test_zero_mu_equals_fedavg(tmp_path: Path, batch_norm: Any) -> None:
    _, found = toy_states(tmp_path / "prox", FedProx(0.0, batch_norm=batch_norm))
    _, expected = toy_states(tmp_path / "avg", FedAvg(batch_norm=batch_norm))
    assert_equal(found, expected)


def fit(module: ToyModule, algorithm: FedProx, **settings: Any) -> None:
    trainer = quiet_trainer(callbacks=[FederatedCallback(algorithm)], **settings)
    trainer.fit(module, toy_loader(4))


def moved(module: ToyModule, start: ToyModule) -> float:
    pairs = zip(module.parameters(), start.parameters(), strict=True)
    return sum(float((w - o).detach().square().sum()) for w, o in pairs)


def test_a_larger_mu_stays_nearer_to_the_start() -> None:
    start = ToyModule(lr=0.05)
    modules = {mu: copy.deepcopy(start) for mu in (0.0, 1.0, 10.0)}
    for mu, module in modules.items():
        fit(module, FedProx(mu), max_epochs=3)
    distances = [moved(module, start) for module in modules.values()]
    assert distances == sorted(distances, reverse=True)


def test_every_fit_is_anchored_where_it_begins() -> None:
    algorithm, module = FedProx(MU), ToyModule()
    fit(module, algorithm)
    reference = copy.deepcopy(module)
    fit(module, algorithm)
    fit(reference, FedProx(MU))
    for found, expected in zip(module.parameters(), reference.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_the_term_is_added_before_clipping() -> None:
    module = ToyModule()
    start = copy.deepcopy(module)
    fit(module, FedProx(100.0), gradient_clip_val=0.01)
    # six steps of rate 0.1 with gradients of norm 0.01 at most
    assert 0 < moved(module, start) ** 0.5 <= 6 * 0.1 * 0.01


def test_the_term_is_added_after_unscaling() -> None:
    full, mixed = ToyModule(lr=0.05), ToyModule(lr=0.05)
    mixed.load_state_dict(full.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    fit(full, FedProx(10.0))
    fit(mixed, FedProx(10.0), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    for found, expected in zip(mixed.parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    weight, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    weight.grad = torch.zeros(2)
    add_proximal_gradient([(weight, torch.zeros(2)), (unused, torch.zeros(2))], 3.0)
    assert weight.grad.tolist() == [3.0, 3.0]
    assert unused.grad is None


@pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf")])
def test_an_impossible_mu_is_refused(mu: float) -> None:
    with pytest.raises(ConfigError, match=rf"`mu` to be non-negative and finite, but got {mu}"):
        FedProx(mu)


class Lbfgs(ToyModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


class TwoOptimizers(ToyModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), 0.1) for layer in (self.net[0], self.net[3])]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Lbfgs(), "FedProx cannot use LBFGS"),
        (TwoOptimizers(), "FedProx needs one optimiser for all weights, but the task has 2"),
    ],
)
def test_optimisers_that_would_add_the_term_twice_are_refused(
    module: ToyModule, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(module, FedProx(MU))
