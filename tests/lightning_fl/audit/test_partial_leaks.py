"""Views that give a part of an update away, of which the attack makes no image."""

import pytest
import torch
from torch import Tensor

from lightning_fl.algorithms import FedAvg
from lightning_fl.audit import TaskGradient
from lightning_fl.audit.trials import Aim, Attack, TrialRow
from lightning_fl.audit.verdicts import verdict
from lightning_fl.audit.views.guesses import Guess
from tests.lightning_fl.audit.rounds import RATE, attack, candidates

TRIALS = 4


def update(one: Attack, number: int) -> Tensor:
    """The update of a site with one image, after one step."""
    [sample] = candidates().samples([number])
    batch = {name: value[None] for name, value in sample.items()}
    gradient = TaskGradient(one.template)(batch)
    names = [name for name, _ in FedAvg().layout(one.template).shared]
    return torch.cat([-RATE * gradient[name].flatten() for name in names])


def trials(share: float) -> list[TrialRow]:
    """Attacks on guesses that are correlated so much with the true update."""
    one, rows = attack(), []
    for number in range(TRIALS):
        truth = update(one, number)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(number))
        noise *= truth.norm() / noise.norm()
        guess = Guess(share * truth + (1 - share**2) ** 0.5 * noise, ("S1",))
        aim = Aim("coordinator", number, guess, truth, [number], number)
        rows.append(one.attacked(aim, TaskGradient(one.template), candidates())[0])
    return rows


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_guess_that_is_partly_right_is_better_than_guessing(share: float) -> None:
    rows = trials(share)
    assert all(row.psnr < row.guess_psnr + 3 for row in rows)  # the attack itself gets nowhere
    assert verdict(rows, trials(0.0), common_label=0.5) == "shows something"


def test_noise_is_no_better_than_guessing() -> None:
    rows = trials(0.0)
    assert verdict(rows, rows, common_label=0.5) == "no better than guessing"
