import copy
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from callbacks import FederatedCallback
from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.algorithms import FedAvg, GlobalRound, Scaffold, ServerMomentum
from lightning_fl.algorithms.base import LocalFit
from lightning_fl.algorithms.scaffold import CONTROL
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Personalisation
from lightning_fl.run.run import Run
from lightning_fl.training.layout import State, from_vector
from tests.lightning_fl.algorithms.by_hand import (
    ENDS,
    InOrder,
    States,
    assert_close,
    assert_equal,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.lightning_fl.run.resuming import left_by_training, stopped_and_resumed
from tests.toy import (
    SITES,
    ToyModule,
    quiet_trainer,
    rounds_alone,
    toy_data,
    toy_experiment,
    toy_loader,
    toy_run,
)


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, States]:
    """Three rounds of all three sites."""
    return toy_states(tmp_path_factory.mktemp("scaffold"), Scaffold(), rounds=3)


def model_only(states: dict[str, State]) -> dict[str, State]:
    return {
        site: {n: v for n, v in state.items() if not n.startswith(CONTROL)}
        for site, state in states.items()
    }


def controls(run: Run, site: str) -> State:
    """c_i of a site, by the weight's name."""
    private, _ = run.make_site(site).state.store.private(run.blueprint.plan.rounds)
    return {n.removeprefix(CONTROL): v for n, v in private.items() if n.startswith(CONTROL)}


def global_control(run: Run) -> State:
    state = from_vector(run.state().weights, run.blueprint.layout)
    return {n.removeprefix(CONTROL): v for n, v in state.items() if n.startswith(CONTROL)}


def test_it_equals_a_hand_written_algorithm_1(scaffold: tuple[Run, States]) -> None:
    run, states = scaffold
    weights = [run.make_site(site).state.samples() for site in run.blueprint.plan.training]
    shares = [weight / sum(weights) for weight in weights]
    own: dict[int, dict[str, Any]] = {i: defaultdict(float) for i in range(3)}
    common: dict[str, Any] = defaultdict(float)
    changes: dict[str, Any] = defaultdict(float)
    calls = count()  # sites come one after the other in each round

    def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
        site = next(calls) % 3
        optimizer, sums = sgd(module, list(module.parameters())), defaultdict[str, Any](float)
        for batch in batches:
            optimizer.zero_grad()
            torch.autograd.backward(module.loss(batch))
            for name, weight in module.named_parameters():
                sums[name] = sums[name] + weight.grad
                weight.grad = weight.grad - own[site][name] + common[name]
            optimizer.step()
        for name, total in sums.items():
            changes[name] += shares[site] * (total / len(batches) - own[site][name])
            own[site][name] = total / len(batches)
        if site == 2:
            for name in sums:
                common[name] = common[name] + changes.pop(name)

    assert_close(model_only(states), federation_by_hand(run, local_round), atol=5e-5)
    for i, site in enumerate(run.blueprint.plan.training):
        torch.testing.assert_close(controls(run, site), dict(own[i]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(global_control(run), dict(common), rtol=1e-4, atol=1e-4)


def test_for_plain_sgd_the_controls_are_the_papers_option_two() -> None:
    torch.manual_seed(0)
    lr, steps = 0.05, 6
    module = ToyModule(lr=lr)
    start = copy.deepcopy(dict(module.named_parameters()))
    c = {CONTROL + n: torch.randn_like(p) for n, p in start.items()}
    c_i = {CONTROL + n: torch.randn_like(p) for n, p in start.items()}
    algorithm = Scaffold().begin_round(3, c, c_i)
    quiet_trainer(callbacks=[FederatedCallback(algorithm)]).fit(module, toy_loader(4))
    changes, new = algorithm.end_round()
    for name, y in module.named_parameters():
        key, x = CONTROL + name, start[name]
        expected = c_i[key] - c[key] + (x - y).detach() / (steps * lr)
        torch.testing.assert_close(new[key], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(changes[key], new[key] - c_i[key])


def test_without_controls_as_in_round_1_it_equals_fedavg(tmp_path: Path) -> None:
    _, found = toy_states(tmp_path / "scaffold", Scaffold(), rounds=1)
    _, expected = toy_states(tmp_path / "avg", FedAvg(), rounds=1)
    assert_equal(model_only(found), expected)


class Equal(InOrder):
    """All hospitals have the same data."""

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        return toy_data(12)


def test_equal_sites_keep_equal_controls_and_equal_fedavg(tmp_path: Path) -> None:
    run, found = toy_states(tmp_path / "scaffold", Scaffold(), rounds=3, data=Equal())
    _, expected = toy_states(tmp_path / "avg", FedAvg(), rounds=3, data=Equal())
    for site in SITES:
        torch.testing.assert_close(controls(run, site), global_control(run), rtol=1e-4, atol=1e-5)
    assert_close(model_only(found), expected, atol=1e-4)


def test_the_global_control_is_the_weighted_mean_of_the_sites(
    scaffold: tuple[Run, States],
) -> None:
    run, _ = scaffold
    samples = {site: run.make_site(site).state.samples() for site in SITES}
    own = {site: controls(run, site) for site in SITES}
    for name, value in global_control(run).items():
        parts = [samples[site] * own[site][name] for site in SITES]
        expected = torch.stack(parts).sum(0) / sum(samples.values())
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["samples", "equal"])
def test_whoever_is_drawn_the_global_control_is_the_mean_of_the_sites(
    tmp_path: Path, weights: str
) -> None:
    settings: dict[str, Any] = {
        "rounds": 5,
        "sites_per_round": 2,
        "aggregator": Plain(weights=weights),
    }
    run, _ = toy_states(tmp_path, Scaffold(), **settings)
    sizes = {name: run.make_site(name).state.samples() for name in run.blueprint.plan.training}
    share = {n: size if weights == "samples" else 1 for n, size in sizes.items()}
    own = {name: controls(run, name) for name in run.blueprint.plan.training}
    drawn = {name for round_ in range(1, 6) for name in run.blueprint.plan.chosen(round_)}
    assert drawn == set(own)
    expected = {
        entry: torch.stack([share[n] / sum(share.values()) * own[n][entry] for n in own]).sum(0)
        for entry in own["A"]
    }
    torch.testing.assert_close(global_control(run), expected, rtol=1e-4, atol=1e-5)


def test_controls_double_the_weights_of_the_vector_and_stay_out_of_the_model(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {"rounds": 1, "personalisation": Personalisation([])}
    experiment = toy_experiment(
        module=ToyModule(batch_norm=True), algorithm=Scaffold(), evaluation=ENDS, **settings
    )
    run = toy_run(tmp_path, experiment)
    run.start()
    weights = sum(p.numel() for p in run.blueprint.template.parameters())
    plain = FedAvg().layout(run.blueprint.template).length
    assert run.blueprint.layout.length == plain + weights
    model = safetensors.torch.load_file(tmp_path / "models" / "global.safetensors")
    assert model.keys() == run.blueprint.template.state_dict().keys()


def test_personal_layers_have_no_controls() -> None:
    module = ToyModule(batch_norm=True)
    for rounds in (0, 2):
        algorithm = Scaffold(personal=["3"], batch_norm="local", shared_rounds=rounds)
        assert set(algorithm.extra_entries(module)) == {
            CONTROL + "net.0.weight",
            CONTROL + "net.0.bias",
        }


def test_a_server_optimiser_leaves_the_controls_alone() -> None:
    algorithm = Scaffold(server=ServerMomentum(0.5))
    layout = algorithm.layout(ToyModule())
    zeros, ones = torch.zeros(layout.length), torch.ones(layout.length)
    weights, _ = algorithm.apply_mean(zeros, ones, GlobalRound(1, layout, share=0.25))
    for name, value in from_vector(weights, layout).items():
        expected = 0.25 if name.startswith(CONTROL) else 0.5
        assert bool((value == expected).all()), name


def spoilt_fit(gradient: float) -> tuple[Scaffold, dict[str, Tensor]]:
    module = ToyModule()
    kept = {CONTROL + n: torch.ones_like(p) for n, p in module.named_parameters()}
    algorithm = Scaffold().begin_round(2, {}, kept)
    fit = LocalFit(module, list(module.parameters()), lambda *_: torch.zeros(()))
    for weight in module.parameters():
        weight.grad = torch.full_like(weight, gradient)
    algorithm.before_optimizer_step(fit)
    return algorithm, kept


def test_a_step_that_amp_will_skip_is_no_part_of_the_mean() -> None:
    algorithm, kept = spoilt_fit(float("inf"))
    assert algorithm.end_round() == ({}, kept)
    changes, _ = spoilt_fit(3.0)[0].end_round()
    assert all(bool((change == 2.0).all()) for change in changes.values())


@pytest.mark.parametrize("bits", [24, 16])
def test_a_resumed_run_through_the_ring_equals_one_that_was_not_killed(
    tmp_path: Path, bits: int
) -> None:
    def made() -> Any:
        torch.manual_seed(0)
        return toy_experiment(
            module=ToyModule(batch_norm=True),
            algorithm=Scaffold(),
            rounds=3,
            aggregator=CyclicCKKS(bits=bits),
        )

    rounds_alone(tmp_path / "whole", made()).start()
    stopped_and_resumed(tmp_path / "killed", made, "train", 2, rounds_alone)
    assert left_by_training(tmp_path / "killed") == left_by_training(tmp_path / "whole")


def test_the_compact_ring_copes_with_controls(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rounds": 4, "module": ToyModule(lr=0.02)}
    plain, _ = toy_states(tmp_path / "plain", Scaffold(), **copy.deepcopy(settings))
    ring = CyclicCKKS(bits=16)
    found, _ = toy_states(tmp_path / "ring", Scaffold(), aggregator=ring, **settings)
    torch.testing.assert_close(found.state().weights, plain.state().weights, rtol=0, atol=5e-3)


class Lbfgs(ToyModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


def test_an_optimiser_that_would_correct_twice_is_refused() -> None:
    trainer = quiet_trainer(callbacks=[FederatedCallback(Scaffold())])
    with pytest.raises(ConfigError, match="Scaffold cannot use LBFGS"):
        trainer.fit(Lbfgs(), toy_loader(4))
