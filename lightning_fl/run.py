"""A run: an experiment in a folder, from the first byte to the report."""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import yaml

from lightning_fl.channel import Channel
from lightning_fl.checkpoint import CHECKPOINTS, SITES, Checkpoints, RunState
from lightning_fl.differential_privacy.account import PrivacyAccount
from lightning_fl.errors import ConfigError
from lightning_fl.experiment import Experiment
from lightning_fl.federation import Federation
from lightning_fl.finished_run import FinishedRun
from lightning_fl.kept_models import keep_models_of, keep_preprocessing, keep_shared_model
from lightning_fl.messages import Message
from lightning_fl.monitor import Monitor
from lightning_fl.parameters import Layout, from_vector, to_vector
from lightning_fl.privacy.prepared_audit import AUDIT_FILES, PreparedAudit
from lightning_fl.privacy.protection import Protection
from lightning_fl.results.recorder import Recorder
from lightning_fl.results.report import REPORT, write_report
from lightning_fl.results.summary import write_results
from lightning_fl.results.wandb_logger import FederationWandbLogger
from lightning_fl.run_privacy import RunPrivacy
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site import CallbackFactory, Site
from lightning_fl.site_maker import SiteMaker
from lightning_fl.transport import Transport
from lightning_fl.volumes.records import summary
from lightning_fl.volumes.run_volumes import evaluate_volumes

T = TypeVar("T")


class Run:
    """One experiment in one folder.

    Args:
        experiment: the settings.
        folder: of the run; config.yaml is there already.
        callback: makes the Lightning callback that performs an algorithm's steps.
        monitor: hears of the progress.
        text: the settings as in config.yaml, from which another process can build sites; None
            where there is no other process.
        sites: all hospitals, where the data here are not those of all; () lists them there.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        callback: CallbackFactory,
        monitor: Monitor,
        *,
        text: str | None = None,
        sites: Sequence[str] = (),
    ) -> None:
        experiment.trainer.check()
        if experiment.trainer.local_steps is not None:
            experiment.algorithm.check_steps(experiment.trainer.local_steps)
        experiment.evaluation.check()
        self.experiment = experiment
        self.folder = folder
        self.callback = callback
        self.monitor = monitor
        self.text = text
        self.plan = experiment.plan(sites)
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
        checkpoints = Checkpoints(self.folder / CHECKPOINTS)
        for name in (REPORT, *AUDIT_FILES):  # they are there once the run is whole
            (self.folder / name).unlink(missing_ok=True)
        self.run_id = state.run
        audit = self.prepared_audit()  # refuses what it cannot attack before anything is trained
        self._tell_loggers()
        keep_preprocessing(self.folder, self.experiment.data, self._sites)
        results = self._with_federation(checkpoints, state, lambda f: self._federate(f, state))
        self._keep_models(state)
        if self.experiment.evaluation.volumes and not self.experiment.engine.sites:
            results = self._with_volumes(results, state.round)
        write_report(self.folder)
        if audit is not None:  # it may fail, and what was trained is to be read all the same
            audit.run(FinishedRun(self.folder), self.monitor, state.round)
            write_report(self.folder)
        self.monitor.on_run_end(results=results, run=str(self.folder))
        return results

    def state(self) -> RunState:
        """Where the run stands: its last checkpoint, or the beginning.

        Raises:
            ConfigError: the checkpoint is damaged or does not belong to these settings.
        """
        state = Checkpoints(self.folder / CHECKPOINTS).latest() or self._fresh()
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
            checkpoints = Checkpoints(self.folder / CHECKPOINTS)
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
            self._protection(),
            self.callback,
            experiment.seed,
        )

    def _protection(self) -> Protection:
        experiment = self.experiment
        shares = "updates" if self.layout.length else "nothing"
        return Protection(
            experiment.aggregator.describe(),
            self.plan.sites_per_round,
            type(experiment.privacy).__name__ if experiment.privacy else "",
            "data" if experiment.algorithm.pools_data else shares,
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
            outcome = experiment.engine.run(coordinate, self.site_maker(), names)
            status = "success"
        finally:
            recorder.close(status)
        return outcome

    def site_maker(self) -> Callable[[str], Site]:
        """What builds sites where the engine has them live.

        Raises:
            ConfigError: they live in other processes, and this run has no text to travel there.
        """
        engine = self.experiment.engine
        if engine.in_process:
            return self.make_site
        if self.text is None:
            raise ConfigError(
                f"{type(engine).__name__} builds sites in other processes from the text of the "
                "settings, but this run has none. Start it by train.py, or use the Local engine."
            )
        return SiteMaker(
            self.text, str(self.folder.resolve()), self.run_id, threads=torch.get_num_threads()
        )

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
            folder=self.folder / SITES / name,
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

    @property
    def _sites(self) -> tuple[str, ...]:
        """The hospitals that are evaluated in the end, those that never trained last."""
        return (*self.plan.evaluating, *self.plan.unseen)

    def _keep_models(self, state: RunState) -> None:
        """Put the global and every site's personal model into models/."""
        if not self.experiment.algorithm.trains_alone:
            extra = self.layout.extra
            template = {k: v for k, v in self.template.state_dict().items() if k not in extra}
            shared = from_vector(state.best_weights, self.layout)
            shared = {k: v for k, v in shared.items() if k not in extra}
            round_ = max(state.best.values(), default=state.round)
            keep_shared_model(self.folder, template, shared, round_)
        for name in self._sites:
            keep_models_of(self.folder, name)

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
