"""Differential privacy of one run: settings checked against the rest, and handed to both halves."""

from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.aggregation import Aggregator
from lightning_fl.algorithms import Algorithm
from lightning_fl.coordinator.plan import Plan
from lightning_fl.errors import ConfigError
from lightning_fl.privacy import DifferentialPrivacy, SampleLevelDP, SiteLevelDP
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.sample_account import SampleAccount
from lightning_fl.privacy.sample_level import SamplePrivacy
from lightning_fl.privacy.site_account import SiteAccount
from lightning_fl.privacy.variances import raise_variances, running_variances
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.layout import Layout


class RunPrivacy:
    """What `privacy` means in one run.

    Args:
        settings: the key of the run; None for no differential privacy.
        plan: who does what.
        template: of the task.
        layout: of an update.
        algorithm: of the run.
        trainer: of the run.

    Attributes:
        noise: how sites clip updates and what noise they add; None unless sites are protected.
        of_samples: what each site needs to train privately; None unless samples are protected.

    Raises:
        ConfigError: the settings do not go together, or the target epsilon cannot be met.
    """

    def __init__(
        self,
        settings: DifferentialPrivacy | None,
        plan: Plan,
        template: pl.LightningModule,
        layout: Layout,
        algorithm: Algorithm,
        trainer: TrainerOptions,
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.template = template
        self.layout = layout
        self.noise: SiteNoise | None = None
        self.of_samples: SamplePrivacy | None = None
        if isinstance(settings, SiteLevelDP):
            self._check_shares(algorithm)
            chosen = [plan.chosen(round_) for round_ in range(1, plan.rounds + 1)]
            self.noise = settings.resolve(chosen, plan.min_sites)
        elif isinstance(settings, SampleLevelDP):
            settings.check(template, algorithm, trainer)
            self.of_samples = SamplePrivacy(settings, trainer, plan.rounds)

    def protected(self, aggregator: Aggregator) -> Aggregator:
        """Return the aggregator as these settings want it.

        Raises:
            ConfigError: the aggregator gives away what should be protected.
        """
        if self.of_samples is not None and aggregator.hides_samples:
            raise ConfigError(
                "`weights: hidden` keeps counts from the coordinator, but what SampleLevelDP "
                "reports tells them. Set `aggregator.weights` to samples or equal."
            )
        return aggregator.protected(self.noise, self.layout)

    def repair(self, weights: Tensor) -> Tensor:
        """Return global weights that noise has left usable, shape (length,); at every party."""
        if self.noise is None or self.noise.noise_multiplier == 0:
            return weights
        return raise_variances(weights, running_variances(self.template, self.layout))

    def account(self, folder: Path) -> PrivacyAccount:
        """Return the coordinator's account, which goes on where its file in `folder` ends."""
        if self.noise is not None:
            return SiteAccount(folder, self.noise, len(self.plan.training))
        if isinstance(self.settings, SampleLevelDP):
            return SampleAccount(folder, self.settings)
        return PrivacyAccount()

    def _check_shares(self, algorithm: Algorithm) -> None:
        if algorithm.pools_data or not self.layout.length:
            name = type(algorithm).__name__
            why = "pools all data" if algorithm.pools_data else "shares nothing"
            raise ConfigError(
                f"SiteLevelDP protects what sites share, but {name} {why}. Set `privacy: null` or "
                "choose a federated method, e.g. FedAvg."
            )
