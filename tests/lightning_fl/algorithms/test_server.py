from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_fl.algorithms import FedAvg, GlobalRound, ServerAdam, ServerMomentum, ServerOptimizer
from lightning_fl.errors import ConfigError
from lightning_fl.training.layout import State, from_vector, to_vector
from tests.lightning_fl.algorithms.by_hand import assert_equal, toy_states
from tests.toy import ToyModule

UPDATES = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))


def steps_of(server: ServerOptimizer) -> Tensor:
    """The weights after each of six rounds from zero."""
    weights, memory, found = torch.zeros(50), dict[str, Tensor](), []
    for update in UPDATES:
        step, memory = server.step(update, memory)
        weights = weights + step
        found.append(weights)
    return torch.stack(found)


def steps_by_torch(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> Tensor:
    found = []
    for update in UPDATES:
        weight.grad = -update
        optimizer.step()
        found.append(weight.detach().clone())
    return torch.stack(found)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_torchs_sgd_on_minus_the_update(momentum: float) -> None:
    weight = nn.Parameter(torch.zeros(50))
    expected = steps_by_torch(weight, torch.optim.SGD([weight], lr=0.7, momentum=momentum))
    torch.testing.assert_close(steps_of(ServerMomentum(0.7, momentum)), expected)


def test_adam_is_torchs_adam_without_its_correction_from_tau_squared() -> None:
    """After very many steps torch corrects nothing; so set its counter and its averages there."""
    tau = 0.1
    weight = nn.Parameter(torch.zeros(50))
    optimizer = torch.optim.Adam([weight], lr=0.05, betas=(0.9, 0.99), eps=tau)
    optimizer.state[weight] = {
        "step": torch.tensor(1e6),
        "exp_avg": torch.zeros(50),
        "exp_avg_sq": torch.full((50,), tau**2),
    }
    expected = steps_by_torch(weight, optimizer)
    torch.testing.assert_close(steps_of(ServerAdam(0.05, (0.9, 0.99), tau)), expected)


def test_adams_first_step_by_hand() -> None:
    step, memory = ServerAdam(0.1, (0.9, 0.75), 1.0).step(torch.tensor([2.0]), {})
    assert memory["m"].item() == pytest.approx(0.2)
    assert memory["v"].item() == pytest.approx(0.75 + 0.25 * 4)
    assert step.item() == pytest.approx(0.1 * 0.2 / (1.75**0.5 + 1))


def test_rate_one_without_momentum_equals_fedavg(tmp_path: Path) -> None:
    _, found = toy_states(tmp_path / "server", FedAvg(server=ServerMomentum(1.0, 0.0)))
    _, expected = toy_states(tmp_path / "plain", FedAvg())
    assert_equal(found, expected)


def applied(algorithm: FedAvg, round_: int) -> tuple[State, State]:
    """The step of each entry after a mean update of ones, and the module's entries."""
    layout = algorithm.layout(ToyModule(batch_norm=True))
    ones, zeros = torch.ones(layout.length), torch.zeros(layout.length)
    weights, memory = algorithm.apply_mean(zeros, ones, GlobalRound(round_, layout))
    return from_vector(weights, layout), memory


def test_running_statistics_get_the_plain_mean() -> None:
    steps, memory = applied(FedAvg(server=ServerMomentum(0.5)), 1)
    for name, step in steps.items():
        assert bool((step == (1.0 if "running" in name else 0.5)).all()), name
    assert set(memory) == {"velocity"}


def test_a_frozen_weight_gets_the_plain_mean() -> None:
    module = ToyModule()
    module.net[0].weight.requires_grad_(False)
    assert "net.0.weight" not in FedAvg().layout(module).trained


def test_layers_that_sites_have_of_their_own_get_the_plain_mean() -> None:
    algorithm = FedAvg(personal=["3"], shared_rounds=2, server=ServerMomentum(0.5))
    for round_, expected in ((2, 0.5), (3, 1.0)):
        steps, _ = applied(algorithm, round_)
        assert bool((steps["net.3.weight"] == expected).all())
        assert bool((steps["net.0.weight"] == 0.5).all())


def test_variances_stay_positive_under_adam(tmp_path: Path) -> None:
    run, _ = toy_states(tmp_path, FedAvg(server=ServerAdam(5.0)), rounds=4)
    state = from_vector(run.state().weights, run.blueprint.layout)
    assert bool((state["net.1.running_var"] > 0).all())
    assert to_vector(state, run.blueprint.layout).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServerMomentum(0.0), "`lr` to be positive and finite, but got 0.0"),
        (lambda: ServerMomentum(1.0, 1.0), "`momentum` to be from 0 to below 1, but got 1.0"),
        (lambda: ServerAdam(-1.0), "`lr` to be positive and finite, but got -1.0"),
        (lambda: ServerAdam(tau=0.0), "`tau` to be positive and finite, but got 0.0"),
        (lambda: ServerAdam(betas=(0.9, 1.5)), "`betas` to be from 0 to below 1, but got 1.5"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
