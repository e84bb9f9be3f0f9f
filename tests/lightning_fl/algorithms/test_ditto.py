import copy
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.algorithms import Ditto, FedAvg, Local
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.results.summary import read_results
from lightning_fl.run.run import Run
from tests.lightning_fl.algorithms.by_hand import (
    ENDS,
    States,
    assert_close,
    assert_equal,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.toy import SITES, ToyModule, rounds_alone, toy_experiment, toy_run

MU = 0.5


@pytest.fixture(scope="module")
def ditto(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, States]:
    return toy_states(tmp_path_factory.mktemp("ditto"), Ditto(MU))


@pytest.fixture(scope="module")
def fedavg(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, States]:
    return toy_states(tmp_path_factory.mktemp("fedavg"), FedAvg())


def own_models(run: Run, round_: int = 2) -> States:
    """v_k of each site after a round."""
    return {s: run.make_site(s).state.store.private(round_, model="second")[0] for s in SITES}


def train(module: ToyModule, batches: Sequence[Any], anchor: ToyModule | None = None) -> None:
    optimizer = sgd(module, list(module.parameters()))
    for batch in batches:
        optimizer.zero_grad()
        loss = module.loss(batch)
        if anchor is not None:
            pairs = zip(module.parameters(), anchor.parameters(), strict=True)
            loss = loss + MU / 2 * sum((v - w.detach()).square().sum() for v, w in pairs)
        torch.autograd.backward(loss)
        optimizer.step()


def test_it_equals_a_hand_written_algorithm_1(ditto: tuple[Run, States]) -> None:
    own: dict[int, ToyModule] = {}
    calls = count()  # sites come one after the other in each round

    def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
        broadcast = copy.deepcopy(module)
        v = own.setdefault(next(calls) % 3, copy.deepcopy(module))
        train(v, batches, broadcast)
        train(module, batches)

    run, states = ditto
    assert_close(states, federation_by_hand(run, local_round))
    expected = {site: own[i].state_dict() for i, site in enumerate(run.blueprint.plan.training)}
    assert_close(own_models(run), expected)


def test_the_shared_model_is_fedavgs(ditto: tuple[Run, States], fedavg: tuple[Run, States]) -> None:
    (_, found), (_, expected) = ditto, fedavg
    assert_equal(found, expected)


def test_zero_mu_equals_local_training(tmp_path: Path) -> None:
    run, _ = toy_states(tmp_path / "ditto", Ditto(0.0))
    _, expected = toy_states(tmp_path / "local", Local())
    assert_equal(own_models(run), expected)


def distance(module: ToyModule, mu: float, folder: Path) -> float:
    """How far v_k moves from the broadcast weights in one round."""
    settings = {"algorithm": Ditto(mu), "module": module, "rounds": 1, "evaluation": ENDS}
    run = rounds_alone(folder, toy_experiment(**settings))
    run.start()
    start = run.blueprint.template.state_dict()
    moved = [v - start[n] for own in own_models(run, 1).values() for n, v in own.items()]
    return sum(float(part.square().sum()) for part in moved)


def test_a_larger_mu_stays_nearer_to_the_shared_model(tmp_path: Path) -> None:
    module = ToyModule(lr=0.05)
    found = [distance(module, mu, tmp_path / str(mu)) for mu in (0.0, 1.0, 15.0)]
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.5 * found[0]


def test_personalisation_starts_from_the_sites_own_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "module": ToyModule(batch_norm=True, momentum=0.9),
        "algorithm": Ditto(MU),
        "personalisation": Personalisation([FineTune([2], 1e-9)]),
    }
    run = toy_run(tmp_path, toy_experiment(**settings))
    run.start()
    choices = read_results(tmp_path / "results.json")["personalisation"]
    for name in SITES:
        site = run.make_site(name)
        best = run.state().best[name]
        own, _ = site.state.store.private(best, model="second")
        personal = site.state.personal_module(best).state_dict()
        assert all(torch.equal(personal[entry], own[entry]) for entry in own)
        scores = choices[name]["candidates"]
        assert scores["none"] != scores["own"]
        assert abs(scores["finetune@2"] - scores["own"]) < abs(scores["none"] - scores["own"])


def test_a_site_that_never_trained_starts_from_the_shared_model(tmp_path: Path) -> None:
    run, _ = toy_states(tmp_path, Ditto(MU), rounds=1, sites_per_round=1, min_sites=1)
    best = run.state().best
    for name in set(SITES) - set(run.blueprint.plan.chosen(1)):
        site = run.make_site(name)
        own, shared = (
            m(best[name]).state_dict() for m in (site.state.personal_module, site.state.module)
        )
        assert all(torch.equal(own[entry], shared[entry]) for entry in shared)


def test_other_methods_personalise_the_shared_model(fedavg: tuple[Run, States]) -> None:
    run, _ = fedavg
    site, best = run.make_site("A"), run.state().best["A"]
    own, shared = (
        site.state.personal_module(best).state_dict(),
        site.state.module(best).state_dict(),
    )
    assert all(torch.equal(own[entry], shared[entry]) for entry in shared)
    assert not list(run.folder.rglob("second-*"))


def test_a_site_keeps_its_own_models_of_the_last_rounds_and_the_best_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"algorithm": Ditto(MU), "rounds": 5, "sites_per_round": 2}
    rounds_alone(tmp_path, toy_experiment(module=ToyModule(batch_norm=True), **settings)).start()
    for name in SITES:
        assert 1 <= len(list(tmp_path.rglob(f"{name}/second-*"))) <= 4


def test_an_impossible_mu_is_refused() -> None:
    with pytest.raises(ConfigError, match="`mu` to be non-negative and finite, but got -1"):
        Ditto(-1.0)
