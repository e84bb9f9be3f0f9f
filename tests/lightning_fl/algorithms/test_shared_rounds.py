"""Layers that are averaged in the first rounds and stay at the site in later ones."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import Algorithm, FedAvg, FedPer, FedProx, FedRep, Local, PerFedAvg
from lightning_fl.algorithms.base import LocalFit
from lightning_fl.errors import ConfigError
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.training.layout import from_vector
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message
from tests.lightning_fl.algorithms.by_hand import (
    States,
    assert_close,
    assert_equal,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.lightning_fl.algorithms.test_fedprox import MU
from tests.lightning_fl.run.resuming import left_by_training, stopped_and_resumed
from tests.toy import ToyHospitals, ToyModule, rounds_alone, toy_experiment, toy_run

LATE: dict[str, Any] = {"personal": ["3"], "batch_norm": "local"}


class Late(NamedTuple):
    """A run of three rounds whose late layers stay at the sites from round 2 on.

    `sent` holds how many numbers the sites' updates had in each round.
    """

    run: Run
    states: States
    sent: dict[int, set[int]]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Late:
    sent: dict[int, set[int]] = {}
    original = Channel.ask

    def ask(self: Channel, op: str, messages: Any) -> Any:
        answers = original(self, op, messages)
        if op == "update":
            for answer in answers.values():
                assert isinstance(answer, Message)
                sent.setdefault(answer.round, set()).add(answer.tensors["update"].numel())
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "ask", ask)
        folder = tmp_path_factory.mktemp("late")
        return Late(*toy_states(folder, FedAvg(**LATE, shared_rounds=1), rounds=3), sent)


def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
    optimizer = sgd(module, list(module.parameters()))
    for batch in batches:
        optimizer.zero_grad()
        torch.autograd.backward(module.loss(batch))
        optimizer.step()


def test_it_equals_a_hand_written_federation(late: Late) -> None:
    run, states, _ = late
    assert {name[:5] for name in run.blueprint.layout.late} == {"net.1", "net.3"}
    assert_close(states, federation_by_hand(run, local_round), atol=2e-5)
    a, b, _ = states.values()
    assert not torch.equal(a["net.3.weight"], b["net.3.weight"])


def test_fedprox_holds_these_layers_in_the_first_rounds_and_frees_them_later(
    tmp_path: Path,
) -> None:
    rounds = iter([1] * 3 + [2] * 3)

    def proximal_round(module: ToyModule, batches: Sequence[Any]) -> None:
        free = ("net.1.", "net.3.") if next(rounds) == 2 else ()
        held = [p for name, p in module.named_parameters() if not name.startswith(free)]
        origin = copy.deepcopy(held)
        optimizer = sgd(module, list(module.parameters()))
        for batch in batches:
            optimizer.zero_grad()
            distance = sum((w - o).square().sum() for w, o in zip(held, origin, strict=True))
            torch.autograd.backward(module.loss(batch) + MU / 2 * distance)
            optimizer.step()

    run, states = toy_states(tmp_path, FedProx(MU, **LATE, shared_rounds=1))
    assert_close(states, federation_by_hand(run, proximal_round))


def test_fedrep_trains_the_head_in_its_phase_while_it_is_shared(tmp_path: Path) -> None:
    module = ToyModule()
    algorithm = FedRep(1, personal=["3"], shared_rounds=3)
    fit = LocalFit(module, list(module.parameters()), lambda *_: torch.zeros(()))
    for round_ in (1, 4):
        head, rest = algorithm.begin_round(round_, {}, {})._parts(fit)
        assert [id(p) for p in head] == [id(p) for p in module.net[3].parameters()]
        assert [id(p) for p in rest] == [id(p) for p in module.net[0].parameters()]


def own_mean(run: Run, states: States) -> dict[str, Tensor]:
    """The weighted mean of the sites' own values."""
    samples = {name: run.make_site(name).state.samples() for name in states}
    return {
        entry: torch.stack([samples[s] * states[s][entry].double() for s in states]).sum(0).float()
        / sum(samples.values())
        for entry in run.blueprint.layout.late
    }


def assert_the_mean_is_global(run: Run, states: States) -> None:
    shared = from_vector(run.state().weights, run.blueprint.layout)
    found = {name: shared[name] for name in run.blueprint.layout.late}
    torch.testing.assert_close(found, own_mean(run, states), rtol=1e-5, atol=1e-6)


def test_the_global_model_has_the_mean_of_the_sites_own_layers(late: Late) -> None:
    assert_the_mean_is_global(late.run, late.states)


def test_the_global_model_has_the_mean_of_the_drawn_sites_own_layers(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rounds": 4, "sites_per_round": 2}
    run, states = toy_states(tmp_path, FedAvg(**LATE, shared_rounds=1), **settings)
    assert_the_mean_is_global(run, states)


def test_no_shared_round_is_as_before_and_nothing_of_it_travels(tmp_path: Path) -> None:
    run, states = toy_states(tmp_path / "zero", FedAvg(**LATE, shared_rounds=0))
    assert not run.blueprint.layout.late
    assert not [n for n, _ in run.blueprint.layout.shared if n.startswith(("net.1.", "net.3."))]
    _, expected = toy_states(tmp_path / "default", FedAvg(**LATE))
    assert_equal(states, expected)


def test_up_to_the_switch_it_equals_fedavg(tmp_path: Path) -> None:
    """The round of the switch starts from the averaged weights; only then do sites part."""
    late, _ = toy_states(tmp_path / "late", FedAvg(**LATE, shared_rounds=2), rounds=3)
    plain, _ = toy_states(tmp_path / "plain", FedAvg(), rounds=3)
    torch.testing.assert_close(late.state().weights, plain.state().weights, rtol=0, atol=1e-6)


def test_after_the_switch_a_net_of_late_layers_trains_as_if_alone(tmp_path: Path) -> None:
    """Where every layer is late, the sites go on alone from the mean of round 1."""

    class AllLate(FedAvg):
        def local_entries(self, module: Any) -> set[str]:
            return {name for name in module.state_dict() if "num_batches" not in name}

    run, found = toy_states(tmp_path / "late", AllLate(**LATE, shared_rounds=1), rounds=4)
    first, _ = toy_states(tmp_path / "first", FedAvg(), rounds=1)
    module = copy.deepcopy(run.blueprint.template)
    assert isinstance(module, ToyModule)
    module.load_state_dict(from_vector(first.state().weights, first.blueprint.layout), strict=False)
    module.state_dict()["net.1.num_batches_tracked"].fill_(3)
    _, expected = toy_states(tmp_path / "alone", Local(), module=module, rounds=3)
    assert_close(found, expected)


def test_a_site_that_has_not_trained_since_takes_the_mean(tmp_path: Path) -> None:
    algorithm = FedAvg(**LATE, shared_rounds=1)
    run, _ = toy_states(tmp_path, algorithm, rounds=2, sites_per_round=1, min_sites=1)
    [drawn] = run.blueprint.plan.chosen(2)
    weights = run.state().weights
    for name in run.blueprint.plan.training:
        site = run.make_site(name)
        site.state.store.save_weights(2, weights)
        state, shared = (
            site.state.module(2).state_dict(),
            from_vector(weights, run.blueprint.layout),
        )
        private, _ = site.state.store.private(2)
        source = private if name == drawn else shared
        assert all(torch.equal(state[entry], source[entry]) for entry in run.blueprint.layout.late)


def test_a_best_round_before_the_switch_is_the_shared_model_everywhere(tmp_path: Path) -> None:
    run, _ = toy_states(tmp_path, FedAvg(**LATE, shared_rounds=2), rounds=6)
    state = run.state()
    state.best_weights = torch.zeros_like(state.best_weights)
    for name in run.blueprint.plan.training:
        site = run.make_site(name)
        site.state.store.save_weights(2, state.best_weights)
        assert not site.state.module(2).get_parameter("net.3.weight").any()
        site.state.store.save_weights(6, state.best_weights)
        assert site.state.module(6).get_parameter("net.3.weight").any()


def experiment() -> Experiment:
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True, momentum=0.9)
    algorithm = FedPer(**LATE, shared_rounds=1)
    return toy_experiment(module=module, algorithm=algorithm, sites_per_round=2, rounds=4)


def test_a_run_resumed_after_the_switch_equals_one_that_was_not_killed(tmp_path: Path) -> None:
    """In the round of the switch itself test_all_methods.py kills it."""
    rounds_alone(tmp_path / "whole", experiment()).start()
    stopped_and_resumed(tmp_path / "killed", experiment, "train", 3, rounds_alone)
    assert left_by_training(tmp_path / "killed") == left_by_training(tmp_path / "whole")


def test_every_round_moves_the_same_bytes(late: Late) -> None:
    length = late.run.blueprint.layout.length
    assert late.sent == {round_: {length} for round_ in (1, 2, 3)}


def test_the_compact_ring_gives_what_plain_gives(tmp_path: Path) -> None:
    """With 24 bits test_all_methods.py says so."""
    _, expected = toy_states(tmp_path / "plain", FedAvg(**LATE, shared_rounds=2), rounds=4)
    ring = CyclicCKKS(bits=16)
    _, found = toy_states(
        tmp_path / "ring", FedAvg(**LATE, shared_rounds=2), rounds=4, aggregator=ring
    )
    for site in expected:
        torch.testing.assert_close(found[site], expected[site], rtol=0, atol=2e-2)


def test_a_hospital_that_never_trains_begins_with_the_mean(tmp_path: Path) -> None:
    data = ToyHospitals({"A": 9, "B": 6, "C": 5, "D": 4}, unseen=["D"])
    run, states = toy_states(tmp_path, FedAvg(**LATE, shared_rounds=1), data=data)
    assert set(states) == {"A", "B", "C"}
    site = run.make_site("D")
    site.state.store.save_weights(run.blueprint.plan.rounds, run.state().weights)
    start = site.state.module(run.blueprint.plan.rounds).state_dict()
    found = {entry: start[entry] for entry in run.blueprint.layout.late}
    torch.testing.assert_close(found, own_mean(run, states), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [FedAvg, FedPer, FedProx, FedRep, PerFedAvg])
def test_every_method_with_personal_layers_takes_shared_rounds(method: type[Algorithm]) -> None:
    algorithm = method(personal=["3"], shared_rounds=3)
    assert not algorithm.layers_stay(3)
    assert algorithm.layers_stay(4)


def test_impossible_numbers_of_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`shared_rounds` to be non-negative, but got -1"):
        FedAvg(**LATE, shared_rounds=-1)
    with pytest.raises(ConfigError, match="no layer stays at the sites afterwards"):
        FedAvg(shared_rounds=1)
    with pytest.raises(ConfigError, match=r"shared_rounds` to be less than `rounds`, 2, but got 2"):
        toy_run(tmp_path, toy_experiment(algorithm=FedAvg(personal=["3"], shared_rounds=2)))
