"""A federation in plain torch on a run's own batches: the reference that algorithms must equal."""

import copy
from collections.abc import Callable, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fl.algorithms import Algorithm
from lightning_fl.run.run import Run
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.layout import from_vector
from tests.toy import ToyHospitals, ToyModule, rounds_alone, toy_experiment

States = dict[str, dict[str, Tensor]]
LocalRound = Callable[[ToyModule, Sequence[Any]], None]


class InOrder(ToyHospitals):
    """Without shuffling, so that batches do not depend on how often Lightning begins an epoch."""

    def train_loader(self, *, batches_per_step: int = 1, **_: Any) -> DataLoader[Any]:
        size = self.batch_size * batches_per_step
        return DataLoader(self.split_dataset("train"), batch_size=size, drop_last=True)


ENDS = Evaluation("loss", lower_is_better=True, every=100, gallery=0)
"""Scores the global model before the first round and after the last."""


def toy_states(folder: Path, algorithm: Algorithm, **settings: Any) -> tuple[Run, States]:
    """The rounds of a run with BatchNorm, and each site's model that trained in the last round.

    Nothing is rehearsed, personalised or tested; see `rounds_alone`.
    """
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True, momentum=0.9)
    defaults = {
        "module": module,
        "algorithm": algorithm,
        "data": InOrder(),
        "evaluation": ENDS,
    }
    run = rounds_alone(folder, toy_experiment(**(defaults | settings)))
    run.start()
    rounds = run.blueprint.plan.rounds
    shared = from_vector(run.state().weights, run.blueprint.layout)
    states = {}
    for name in run.blueprint.plan.chosen(rounds):
        private, _ = run.make_site(name).state.store.private(rounds)
        states[name] = {**shared, **private}
    return run, states


def federation_by_hand(run: Run, local_round: LocalRound) -> States:
    """Each site's model after all rounds, in which `local_round` trains from the shared weights."""
    sites = {name: run.make_site(name) for name in run.blueprint.plan.training}
    modules = {name: copy.deepcopy(run.blueprint.template) for name in sites}
    steps = run.experiment.trainer.local_steps
    for round_ in range(1, run.blueprint.plan.rounds + 1):
        for name, site in sites.items():
            per_step = run.experiment.algorithm.batches_per_step
            loader = site.state.train_loader("train", round_, batches=per_step)
            module = modules[name]
            assert isinstance(module, ToyModule)
            module.train()
            local_round(module, list(islice(chain.from_iterable(repeat(loader)), steps)))
        samples = {name: site.state.samples() for name, site in sites.items()}
        for entry, _ in run.blueprint.layout.shared:
            stays = (
                round_ > run.experiment.algorithm.shared_rounds
                and entry in run.blueprint.layout.late
            )
            if stays or entry in run.blueprint.layout.extra:
                continue
            parts = [samples[n] * modules[n].state_dict()[entry].double() for n in sites]
            mean = torch.stack(parts).sum(0) / sum(samples.values())
            for module in modules.values():
                module.state_dict()[entry].copy_(mean)
    return {name: module.state_dict() for name, module in modules.items()}


def assert_close(found: States, expected: States, *, atol: float = 1e-6) -> None:
    """All sites' entries agree to float32's rounding, which grows with the rounds."""
    for site in expected:
        torch.testing.assert_close(found[site], expected[site], rtol=1e-5, atol=atol)


def assert_equal(found: States, expected: States) -> None:
    """All sites' entries agree to the last bit."""
    assert found.keys() == expected.keys()
    for site in expected:
        for name, value in expected[site].items():
            assert torch.equal(found[site][name], value), (site, name)


def sgd(module: ToyModule, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The toy's optimiser, over some of its parameters."""
    return torch.optim.SGD(parameters, lr=module.lr, momentum=module.momentum)
