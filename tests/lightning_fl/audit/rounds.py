"""A small federation to attack: eight sites, one image each, one recorded round."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from lightning_fl.audit.trials import Attack, Candidates
from lightning_fl.audit.views.guesses import Evidence
from models import Classification
from models.lenet import LeNet
from tests.lightning_fl.audit.victims import pictures

SIZE = 16
RATE = 1.0


def sgd(rate: float = RATE) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def task(seed: int = 1) -> Classification:
    torch.manual_seed(seed)
    return Classification(LeNet(1, 2, SIZE), classes=2, optimizer=sgd())


def candidates(count: int = 8) -> Candidates:
    return Candidates(pictures(count, SIZE), torch.arange(count) % 2)


def attack(sites: int = 5) -> Attack:
    return Attack(task(), 1, RATE, sites=sites, steps=2, iterations=100)


def evidence(folder: Path, sites: int = 5) -> Evidence:
    return attack(sites).evidence(candidates().samples(range(8)), folder, seed=0)
