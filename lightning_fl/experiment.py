"""A run: its settings, checked and put together, from the first byte to the report."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytorch_lightning as pl
import safetensors.torch
import torch
import yaml
from pytorch_lightning.loggers import Logger
from torch import nn

from lightning_fl.aggregation import Aggregator
from lightning_fl.algorithms import Algorithm
from lightning_fl.atomic import write_bytes, write_text
from lightning_fl.channel import Channel
from lightning_fl.checkpoint import Checkpoints, RunState
from lightning_fl.data import POOLED, FederatedDataModule
from lightning_fl.differential_privacy import DifferentialPrivacy
from lightning_fl.differential_privacy.account import PrivacyAccount
from lightning_fl.engines import Engine
from lightning_fl.errors import ConfigError
from lightning_fl.evaluation import Evaluation
from lightning_fl.federation import Federation, Plan
from lightning_fl.finished_run import LOCAL, PREPROCESSING, FinishedRun
from lightning_fl.fitting import TrainerOptions
from lightning_fl.messages import COORDINATOR, Message
from lightning_fl.monitor import Monitor
from lightning_fl.parameters import Layout, from_vector, to_vector
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy.audit import Audit, PreparedAudit
from lightning_fl.results.recorder import Recorder
from lightning_fl.results.report import REPORT, write_report
from lightning_fl.results.summary import write_results
from lightning_fl.results.wandb_logger import FederationWandbLogger
from lightning_fl.run_privacy import RunPrivacy
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site import CallbackFactory, Site
from lightning_fl.transport import Transport
from lightning_fl.volumes.records import summary
from lightning_fl.volumes.run_volumes import evaluate_volumes

T = TypeVar("T")
SITES = Path("checkpoints") / "sites"
"""Where the folders of the sites lie in a run's, with the Local engine."""


@dataclass(frozen=True)
class Experiment:
    """The settings of a run; their names are the keys of the YAML file.

    Args:
        net: any network that maps images to logits, e.g. `segmentation_models_pytorch.Unet`.
        task: the LightningModule around it, e.g. `models.Segmentation`; it is given `net`.
        data: the hospitals, e.g. `datamodules.ImageFolder`.
        algorithm: the federated method, from `lightning_fl.algorithms`.
        aggregator: how updates become their mean, from `lightning_fl.aggregation`.
        engine: where sites live, from `lightning_fl.engines`.
        trainer: how a site trains in one round.
        evaluation: how models are scored.
        personalisation: how each site makes the finished model its own.
        privacy: from `lightning_fl.differential_privacy`, of sites or of samples; null for none.
        audit: attacks on what every party sees of single images, after training; null for none.
        callbacks: Lightning callbacks of your own for the sites' training.
        loggers: Lightning loggers that get each round's metrics.
        seed: decides everything random; two runs with equal settings give equal numbers on a CPU.
        rounds: how often the sites train and their updates are averaged.
        sites_per_round: sites drawn at random for each round, null for all.
        min_sites: a round with fewer updates stops the run, saved.
        directions: one federation for each of these directions of whole scans, e.g. axial, and
            the mean of all in the end; for data with a setting `direction`.
        output: folder of the run, null for runs/CONFIG/TIME.
    """

    net: nn.Module
    task: Callable[[nn.Module], pl.LightningModule]
    data: FederatedDataModule
    algorithm: Algorithm
    aggregator: Aggregator
    engine: Engine
    trainer: TrainerOptions
    evaluation: Evaluation = field(default_factory=Evaluation)
    personalisation: Personalisation = field(default_factory=Personalisation)
    privacy: DifferentialPrivacy | None = None
    audit: Audit | None = None
    callbacks: Sequence[pl.Callback] = ()
    loggers: Sequence[Logger] = ()
    seed: int = 0
    rounds: int = 10
    sites_per_round: int | None = None
    min_sites: int = 2
    directions: Sequence[str] = ()
    output: str | None = None

    def plan(self) -> Plan:
        """Who does what.

        Raises:
            ConfigError: numbers that cannot work together.
        """
        sites = self.data.training_sites()
        if len(sites) < 2:
            raise ConfigError(
                f"A federation needs at least two training sites, but there is {len(sites)}: "
                f"{list(sites)}. For one hospital use Lightning's Trainer alone."
            )
        reserved = {POOLED, COORDINATOR, "global", "mean", "worst"} & {*self.data.site_names()}
        if reserved:
            raise ConfigError(f"A hospital cannot be called {sorted(reserved)}; rename its folder.")
        if self.rounds < 1:
            raise ConfigError(f"Expected `rounds` to be at least 1, but got {self.rounds}.")
        self.algorithm.plan_rounds(self.rounds)
        pooled = self.algorithm.pools_data
        training = (POOLED,) if pooled else sites
        per_round = (
            len(training) if self.sites_per_round is None or pooled else self.sites_per_round
        )
        if not 1 <= per_round <= len(training):
            raise ConfigError(
                f"Expected `sites_per_round` to be between 1 and {len(training)}, the number of "
                f"training sites, but got {per_round}."
            )
        minimum = 1 if pooled else self.min_sites
        if not 1 <= minimum <= per_round:
            raise ConfigError(
                f"Expected `min_sites` to be between 1 and {per_round}, the sites of a round, but "
                f"got {minimum}."
            )
        unseen = () if self.algorithm.trains_alone else tuple(self.data.unseen)
        return Plan(training, sites, unseen, self.rounds, per_round, minimum, self.seed)


class Run:
    """One experiment in one folder.

    Args:
        experiment: the settings.
        folder: of the run; config.yaml is there already.
        callback: makes the Lightning callback that performs an algorithm's steps.
        monitor: hears of the progress.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, callback: CallbackFactory, monitor: Monitor
    ) -> None:
        experiment.trainer.check()
        if experiment.trainer.local_steps is not None:
            experiment.algorithm.check_steps(experiment.trainer.local_steps)
        experiment.evaluation.check()
        self.experiment = experiment
        self.folder = folder
        self.callback = callback
        self.monitor = monitor
        self.plan = experiment.plan()
        seed_all(derive_seed(experiment.seed, "task"))
        self.template = experiment.task(experiment.net)
        experiment.personalisation.check(self.template)
        if experiment.personalisation.patients and not self.plan.unseen:
            raise ConfigError(
                "`personalisation.patients` is about hospitals that do not train, but there is "
                "none in this run. Name one in `data.unseen`, or leave `patients` empty."
            )
        self.layout: Layout = experiment.algorithm.layout(self.template)
        self.run_id = secrets.token_hex(8)
        if self.layout.length:
            experiment.aggregator.check(self.plan.sites_per_round, self.plan.training, self.layout)
        self.privacy = RunPrivacy(experiment.privacy, self.plan, self.template, self.layout)
        self.privacy.apply(experiment.algorithm, experiment.aggregator, experiment.trainer)

    def start(self) -> dict[str, Any]:
        """Run from the beginning, or from the last checkpoint where there is one.

        Returns:
            What results.json holds.

        Raises:
            ConfigError: the checkpoint belongs to another network.
            SiteError: a site cannot take part.
            TooFewSitesError: too few sites were left in a round; the run is saved.
        """
        state = self.state()
        checkpoints = Checkpoints(self.folder / "checkpoints")
        (self.folder / REPORT).unlink(missing_ok=True)  # it is there once the run is whole
        self.run_id = state.run
        audit = self.prepared_audit()  # refuses what it cannot attack before anything is trained
        self._tell_loggers()
        self._keep_preprocessing()
        results = self._with_federation(checkpoints, state, lambda f: self._federate(f, state))
        self._keep_models(state)
        if self.experiment.evaluation.volumes:
            results = self._with_volumes(results, state.round)
        if audit is not None:
            audit.run(self.folder, self.monitor, state.round)
        write_report(self.folder)
        self.monitor.on_run_end(results=results, run=str(self.folder))
        return results

    def state(self) -> RunState:
        """Where the run stands: its last checkpoint, or the beginning.

        Raises:
            ConfigError: the checkpoint is damaged or does not belong to these settings.
        """
        state = Checkpoints(self.folder / "checkpoints").latest() or self._fresh()
        if state.fingerprint != self.layout.fingerprint:
            raise ConfigError(
                f"The run in {self.folder} has another network (layout {state.fingerprint}) than "
                f"these settings (layout {self.layout.fingerprint}). Resume it with the network it "
                "began with, or start a new run in another folder."
            )
        if state.round > self.plan.rounds:
            raise ConfigError(
                f"The run in {self.folder} has {state.round} rounds already, but `rounds` is "
                f"{self.plan.rounds}. Give at least {state.round}."
            )
        return state

    def validate(self) -> dict[str, Message]:
        """Check settings, data and shapes by one step at every site, and stop.

        Returns:
            What each site says about itself.
        """
        self.prepared_audit()
        with TemporaryDirectory() as folder:
            self.folder = Path(folder)
            checkpoints = Checkpoints(self.folder / "checkpoints")
            return self._with_federation(checkpoints, self._fresh(), lambda f: f.check())

    def prepared_audit(self) -> PreparedAudit | None:
        """The audit, if there is one, with everything checked that can be.

        Raises:
            ConfigError: it cannot attack this task or these data.
        """
        experiment = self.experiment
        if experiment.audit is None:
            return None
        return experiment.audit.prepare(
            self.template,
            experiment.data,
            experiment.aggregator,
            self.callback,
            experiment.seed,
        )

    def _federate(self, federation: Federation, state: RunState) -> dict[str, Any]:
        federation.check()
        return federation.run(state)

    def _with_federation(
        self, checkpoints: Checkpoints, state: RunState, act: Callable[[Federation], T]
    ) -> T:
        experiment = self.experiment
        account = self.privacy.account(checkpoints.folder)
        recorder = self._recorder(state, account)

        def coordinate(transport: Transport) -> T:
            channel = Channel(
                transport,
                run=self.run_id,
                timeout=experiment.engine.timeout,
                on_cost=recorder.costs.append,
                on_message=recorder.messages.append,
                monitor=self.monitor,
            )
            federation = Federation(
                self.plan,
                layout=self.layout,
                algorithm=experiment.algorithm,
                aggregator=experiment.aggregator,
                evaluation=experiment.evaluation,
                channel=channel,
                checkpoints=checkpoints,
                recorder=recorder,
                monitor=self.monitor,
                account=account,
            )
            return act(federation)

        names = sorted({*self.plan.training, *self.plan.evaluating, *self.plan.unseen})
        status = "failed"
        try:
            outcome = experiment.engine.run(coordinate, self.make_site, names)
            status = "success"
        finally:
            recorder.close(status)
        return outcome

    def make_site(self, name: str) -> Site:
        """Build one site; its folder is inside the run's."""
        experiment = self.experiment
        return Site(
            name,
            template=self.template,
            data=experiment.data.for_site(name, experiment.seed),
            algorithm=experiment.algorithm,
            aggregator=experiment.aggregator,
            trainer=experiment.trainer,
            evaluation=experiment.evaluation,
            personalisation=experiment.personalisation,
            callback=self.callback,
            callbacks=experiment.callbacks,
            folder=self._site_folder(name),
            run=self.run_id,
            seed=experiment.seed,
            privacy=self.privacy.of_samples,
        )

    def _fresh(self) -> RunState:
        weights = to_vector(self.template.state_dict(), self.layout)
        return RunState(self.run_id, self.layout.fingerprint, weights, weights)

    def _recorder(self, state: RunState, account: PrivacyAccount) -> Recorder:
        recorder = Recorder(
            self.folder,
            training_sites=self.plan.evaluating,
            unseen=self.plan.unseen,
            aggregator={
                **self.experiment.aggregator.describe(),
                "values": self.layout.length,
            },
            loggers=self.experiment.loggers,
            privacy=account.summary,
        )
        if state.round or any(state.rows):
            recorder.resume(state.rows)
        return recorder

    def _tell_loggers(self) -> None:
        """Give the loggers their place in the run's folder, its id and its settings."""
        settings = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        for logger in self.experiment.loggers:
            if isinstance(logger, FederationWandbLogger):
                logger.bind(self.folder, self.run_id)
            logger.log_hyperparams(settings or {})

    def _keep_models(self, state: RunState) -> None:
        """Put the global and every site's personal model into models/."""
        models = self.folder / "models"
        models.mkdir(exist_ok=True)
        if not self.experiment.algorithm.trains_alone:
            shared = from_vector(state.best_weights, self.layout)
            whole = {**self.template.state_dict(), **shared}
            extra = self.layout.extra
            tensors = {k: v.clone().contiguous() for k, v in whole.items() if k not in extra}
            metadata = {"round": json.dumps(max(state.best.values(), default=state.round))}
            # what no site ever gave away is as it was at the start
            metadata[LOCAL] = json.dumps(
                [n for n in tensors if n not in shared and tensors[n].is_floating_point()]
            )
            write_bytes(models / "global.safetensors", safetensors.torch.save(tensors, metadata))
        for name in (*self.plan.evaluating, *self.plan.unseen):
            personal = self._site_folder(name) / "personal.safetensors"
            if personal.is_file():
                write_bytes(models / f"{name}.safetensors", personal.read_bytes())
            self._keep_own_layers(name, models)

    def _keep_own_layers(self, site: str, models: Path) -> None:
        """Keep the shared model as a site uses it, where it has layers of its own in it."""
        came, shared = (
            folder / "global.safetensors" for folder in (self._site_folder(site), models)
        )
        if not came.is_file() or not shared.is_file():
            return
        own, all_have = (safetensors.torch.load_file(file) for file in (came, shared))
        if any(not torch.equal(own[name], value) for name, value in all_have.items()):
            write_bytes(models / f"{site}.global.safetensors", came.read_bytes())

    def _keep_preprocessing(self) -> None:
        """Write down how each site's scans become what its model sees, for predictions."""
        found = {}
        for site in (*self.plan.evaluating, *self.plan.unseen):
            preprocessing = self.experiment.data.preprocessing(site)
            if preprocessing is not None:
                found[site] = preprocessing.to_settings()
        if found:
            text = yaml.safe_dump(found, sort_keys=False)
            write_text(self.folder / PREPROCESSING, text)

    def _with_volumes(self, results: dict[str, Any], round_: int) -> dict[str, Any]:
        """The results with `volumes`, where the data hold whole scans."""
        rows = evaluate_volumes(
            FinishedRun(self.folder),
            self.experiment.data,
            sites=self.plan.evaluating,
            unseen=self.plan.unseen,
            evaluation=self.experiment.evaluation,
            seed=self.experiment.seed,
            round_=round_,
            monitor=self.monitor,
        )
        if not rows:
            return results
        whole = results | {"volumes": summary(rows, self.plan.evaluating)}
        write_results(self.folder / "results.json", whole)
        return whole

    def _site_folder(self, name: str) -> Path:
        return self.folder / SITES / name
