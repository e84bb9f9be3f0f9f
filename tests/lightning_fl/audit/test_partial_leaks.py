"""Views that give a part of an update away, of which the attack makes no image."""

import functools

import pytest
import torch
from torch import Tensor

from lightning_fl.algorithms import FedAvg
from lightning_fl.audit import TaskGradient
from lightning_fl.audit.trials import TrialAttack, TrialRow
from lightning_fl.audit.verdicts import ViewTrials
from lightning_fl.audit.views.guesses import Guess
from tests.lightning_fl.audit.rounds import RATE, attack

TRIALS = 4


def update(trial_attack: TrialAttack, number: int) -> Tensor:
    """The update of a site with one image, after one step."""
    sample = trial_attack.images.sample(number)
    batch = {name: value[None] for name, value in sample.items()}
    gradient = TaskGradient(trial_attack.template)(batch)
    names = [name for name, _ in FedAvg().layout(trial_attack.template).shared]
    return torch.cat([-RATE * gradient[name].flatten() for name in names])


@functools.cache  # every test needs those of noise
def trials(share: float) -> list[TrialRow]:
    """Attacks on guesses that are correlated so much with the true update."""
    trial_attack, rows = attack(), []
    for number in range(TRIALS):
        truth = update(trial_attack, number)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(number))
        noise *= truth.norm() / noise.norm()
        guess = Guess(share * truth + (1 - share**2) ** 0.5 * noise, ("S1",))
        row, _ = trial_attack.attacked("coordinator", number, guess, truth, [number], seed=number)
        rows.append(row)
    return rows


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_guess_that_is_partly_right_is_better_than_guessing(share: float) -> None:
    rows = trials(share)
    assert all(row.psnr < row.guess_psnr + 3 for row in rows)  # the attack itself gets nowhere
    assert ViewTrials(rows, trials(0.0), common_label=0.5).verdict == "shows something"


def test_noise_is_no_better_than_guessing() -> None:
    rows = trials(0.0)
    assert ViewTrials(rows, rows, common_label=0.5).verdict == "no better than guessing"
