"""The settings of a run, and who does what in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from lightning_fl.aggregation import Aggregator
from lightning_fl.algorithms import Algorithm
from lightning_fl.audit import Audit
from lightning_fl.coordinator.plan import Plan
from lightning_fl.data.module import POOLED, FederatedDataModule
from lightning_fl.engines import Engine, Local
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy import DifferentialPrivacy
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.messages import COORDINATOR


@dataclass(frozen=True)
class Experiment:
    """The settings of a run; their names are the keys of the YAML file, beside `net`.

    Args:
        task: the LightningModule around the network, with the run's first weights; YAML gives it as
            `net` and `task`, see `build_task`.
        data: the hospitals, e.g. `datamodules.ImageFolder`.
        algorithm: the federated method, from `lightning_fl.algorithms`.
        aggregator: how updates become their mean, from `lightning_fl.aggregation`.
        trainer: how a site trains in one round.
        engine: where sites live: local, ray, nvflare or a class, from `lightning_fl.engines`.
        evaluation: how models are scored.
        personalisation: how each site makes the finished model its own.
        privacy: from `lightning_fl.privacy`, of sites or of samples; null for none.
        audit: attacks on what every party sees of single images, after training; null for none.
        callbacks: Lightning callbacks of your own for the sites' training.
        loggers: Lightning loggers that get each round's metrics; configs/overrides has three.
        init: begin with the weights of a .safetensors file, e.g. RUN/models/A.safetensors, or with
            the shared model of another run's folder; null for those of `net`.
        seed: decides everything random; two runs with equal settings give equal numbers on a CPU.
        rounds: how often the sites train and their updates are averaged.
        sites_per_round: sites drawn at random for each round, null for all.
        min_sites: a round with fewer updates stops the run, saved.
        directions: one federation for each of these directions of whole scans, e.g. axial, and
            the mean of all in the end; for data with a setting `direction`.
        output: folder of the run, null for runs/CONFIG/TIME.
    """

    task: pl.LightningModule
    data: FederatedDataModule
    algorithm: Algorithm
    aggregator: Aggregator
    trainer: TrainerOptions
    engine: Engine = field(default_factory=Local)
    evaluation: Evaluation = field(default_factory=Evaluation)
    personalisation: Personalisation = field(default_factory=Personalisation)
    privacy: DifferentialPrivacy | None = None
    audit: Audit | None = None
    callbacks: Sequence[pl.Callback] = ()
    loggers: Sequence[Logger] = ()
    init: str | None = None
    seed: int = 0
    rounds: int = 10
    sites_per_round: int | None = None
    min_sites: int = 2
    directions: Sequence[str] = ()
    output: str | None = None

    def plan(self, sites: Sequence[str] = ()) -> Plan:
        """Plan who does what.

        Args:
            sites: all hospitals, where the data here are not those of all; () lists them there.

        Raises:
            ConfigError: numbers that cannot work together.
        """
        everyone = tuple(sites) or (*self.data.training_sites(), *self.data.unseen)
        training = tuple(site for site in everyone if site not in self.data.unseen)
        if len(training) < 2:
            raise ConfigError(
                f"A federation needs at least two training sites, but there is {len(training)}: "
                f"{list(training)}. For one hospital use Lightning's Trainer alone."
            )
        reserved = {POOLED, COORDINATOR, "global", "mean", "worst"} & {*everyone}
        if reserved:
            raise ConfigError(f"A hospital cannot be called {sorted(reserved)}; rename its folder.")
        if self.rounds < 1:
            raise ConfigError(f"Expected `rounds` to be at least 1, but got {self.rounds}.")
        pooled = self.algorithm.pools_data
        trained = (POOLED,) if pooled else training
        per_round = len(trained) if self.sites_per_round is None or pooled else self.sites_per_round
        if not 1 <= per_round <= len(trained):
            raise ConfigError(
                f"Expected `sites_per_round` to be between 1 and {len(trained)}, the number of "
                f"training sites, but got {per_round}."
            )
        minimum = 1 if pooled else self.min_sites
        if not 1 <= minimum <= per_round:
            raise ConfigError(
                f"Expected `min_sites` to be between 1 and {per_round}, the sites of a round, but "
                f"got {minimum}."
            )
        unseen = () if self.algorithm.trains_alone else tuple(self.data.unseen)
        return Plan(trained, training, unseen, self.rounds, per_round, minimum, self.seed)
