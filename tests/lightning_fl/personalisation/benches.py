"""Toy sites to personalise at, and plain training by hand to compare with."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.site.local_state import LocalState
from tests.toy import ToyHospitals, ToyModule, toy_experiment, toy_run

ONE_BATCH = ToyHospitals(batch_size=64)
"""Each site's data are one batch, so that the order of samples does not matter."""


def toy_module(**settings: Any) -> ToyModule:
    torch.manual_seed(1)
    return ToyModule(**settings)


def toy_site(folder: Path, name: str = "A", **settings: Any) -> LocalState:
    """The state of a site of a run that has not begun."""
    run = toy_run(folder, toy_experiment(**({"data": ONE_BATCH} | settings)))
    return run.make_site(name).state


def toy_bench(folder: Path, start: ToyModule, name: str = "A", **settings: Any) -> Workbench:
    """A bench with all training patients of a site."""
    site = toy_site(folder, name, module=start, **settings)
    return Workbench(site.task, start, site.data.split(name).train)


def path_by_hand(
    bench: Workbench, steps: int, rate: Callable[[int], float]
) -> list[dict[str, Tensor]]:
    """Weights after 0, 1, ... steps of SGD on all the training data as one batch."""
    module = copy.deepcopy(bench.start)
    assert isinstance(module, ToyModule)
    [batch] = bench.task.data.train_loader()
    path = [copy.deepcopy(module.state_dict())]
    for step in range(steps):
        module.zero_grad()
        torch.autograd.backward(module.loss(batch))
        with torch.no_grad():
            for weight in module.parameters():
                if weight.grad is not None:
                    weight.sub_(rate(step) * weight.grad)
        path.append(copy.deepcopy(module.state_dict()))
    return path


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6)
