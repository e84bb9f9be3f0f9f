"""Sample-level differential privacy: no one training sample matters much to a site's update."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lightning_fl.algorithms import Algorithm
from lightning_fl.privacy.base import DifferentialPrivacy, require_positive
from lightning_fl.privacy.budget import Budget, epsilon_of
from lightning_fl.privacy.fitness import check_layers, check_method, check_trainer
from lightning_fl.privacy.poisson import PoissonBatches, poisson_loader
from lightning_fl.privacy.private_fit import PrivateFit
from lightning_fl.training.fitting import TrainerOptions

FILE = "sample_privacy.json"
"""What a site has released, in its folder."""


class SampleLevelDP(DifferentialPrivacy):
    """Trains each site by DP-SGD, through opacus.

    Each sample's gradient is clipped to `max_grad_norm`, batches are drawn by Poisson sampling
    instead of in shuffled order, and each step's sum gets Gaussian noise of standard deviation
    noise_multiplier * max_grad_norm. What the run reports holds for one sample that is there or
    not, against anybody who sees the site's updates; it says nothing of a patient with many
    samples, and nothing of personalised models, which are trained without noise. See
    docs/privacy_dp.md.

    The net may have no BatchNorm, the loss of a batch must be the mean of its samples' losses, and
    the method must train by the task's own gradient.

    Args:
        max_grad_norm: largest L2 norm of a sample's gradient.
        noise_multiplier: noise of a step's sum divided by `max_grad_norm`; give this or
            `target_epsilon`.
        target_epsilon: let each site choose its noise so that all rounds together stay at it.
        delta: probability with which the bound may fail; well below 1 / number of samples.
    """

    def __init__(
        self,
        *,
        max_grad_norm: float = 1.0,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        delta: float = 1e-5,
    ) -> None:
        super().__init__(noise_multiplier, target_epsilon, delta)
        require_positive("max_grad_norm", max_grad_norm)
        self.max_grad_norm = max_grad_norm

    @property
    def protects(self) -> str:
        """The word for what is protected."""
        return "sample"

    def check(
        self, module: pl.LightningModule, algorithm: Algorithm, trainer: TrainerOptions
    ) -> None:
        """Refuse layers, methods and Trainers that do not go with it."""
        check_method(algorithm)
        check_trainer(trainer)
        check_layers(module)


@dataclass(frozen=True)
class SamplePrivacy:
    """What a site needs to train under sample-level privacy.

    Attributes:
        settings: of the run.
        trainer: how long a round is.
        rounds: of the run; a site may train in all of them.
    """

    settings: SampleLevelDP
    trainer: TrainerOptions
    rounds: int

    def begin(self, budget: Budget, loader: DataLoader[Any]) -> tuple[DataLoader[Any], PrivateFit]:
        """Return loader and callback of a round, which counts from now on, even if repeated.

        Args:
            budget: of the site, in which the round is counted.
            loader: the site's, whose samples and batch size are used.

        Raises:
            ConfigError: the target epsilon cannot be met, or the budget does not suffice.
        """
        drawn, batches = poisson_loader(loader)
        per_round, noise = self._plan(batches)
        budget.spend((noise, batches.rate, per_round))
        norm = self.settings.max_grad_norm
        return drawn, PrivateFit(max_grad_norm=norm, noise_multiplier=noise, batches=batches)

    def check(self, budget: Budget, loader: DataLoader[Any]) -> None:
        """Refuse, before anything is trained, what a site cannot meet or has no budget for."""
        batches = poisson_loader(loader)[1]
        per_round, noise = self._plan(batches)
        budget.check_first((noise, batches.rate, per_round))

    def _plan(self, batches: PoissonBatches) -> tuple[int, float]:
        """Return the steps of a round, and the noise of each."""
        per_round = self.trainer.local_steps or len(batches) * (self.trainer.local_epochs or 1)
        return per_round, self.settings.multiplier(per_round * self.rounds, batches.rate)

    def spent(self, budget: Budget) -> dict[str, float]:
        """Return the last round's noise and sampling rate, all steps so far and their epsilon."""
        rounds = budget.entries()
        noise, rate, _ = rounds[-1]
        return {
            "noise_multiplier": noise,
            "sample_rate": rate,
            "steps": sum(count for _, _, count in rounds),
            "epsilon": epsilon_of(rounds, self.settings.delta),
        }
