"""A small federation to attack: eight sites, one image each, one recorded round."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from lightning_fl.audit import Audit
from lightning_fl.audit.trial_images import TrialImages
from lightning_fl.audit.trials import TrialAttack
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


def images(count: int = 8) -> TrialImages:
    return TrialImages(pictures(count, SIZE), torch.arange(count) % 2)


def attack(sites: int = 5) -> TrialAttack:
    settings = Audit(sites=sites, local_steps=2, iterations=100)
    return TrialAttack(task(), 1, RATE, settings, images(), bits=24)


def evidence(folder: Path, sites: int = 5) -> Evidence:
    samples = {f"S{number + 1}": images().sample(number) for number in range(8)}
    return attack(sites).evidence(samples, folder, seed=0)
