"""A run: an experiment in a folder, from the first byte to the report."""

import secrets
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from lightning_fl.audit.prepared_audit import PreparedAudit, prepare_audit
from lightning_fl.audit.protection import Protection
from lightning_fl.audit.requirements import check_builds_nothing
from lightning_fl.coordinator.averaging import Averaging
from lightning_fl.coordinator.checkpoint import Checkpoints, RunState
from lightning_fl.coordinator.federation import Federation
from lightning_fl.coordinator.recorder import Recorder
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_bytes
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.kept_models import keep_models_of, keep_preprocessing, keep_shared_model
from lightning_fl.predict.run_volumes import evaluate_volumes
from lightning_fl.privacy.account import PrivacyAccount
from lightning_fl.results.case_tables import keep_cases
from lightning_fl.results.report.report import write_report
from lightning_fl.results.run_logger import RunLogger
from lightning_fl.results.summary import write_results
from lightning_fl.results.volume_tables import summary
from lightning_fl.run.blueprint import Blueprint
from lightning_fl.run.description import describe_into
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.site_maker import SiteMaker
from lightning_fl.run_files import (
    AUDIT_FILES,
    CASES,
    CHECKPOINTS,
    CONFIG,
    INIT,
    REPORT,
    SITES,
    first_weights,
)
from lightning_fl.site.site import Site
from lightning_fl.training.first_weights import weights_file
from lightning_fl.training.layout import from_vector
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import Message
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Transport

T = TypeVar("T")


class Run:
    """One experiment in one folder: a blueprint with a coordinator.

    Args:
        experiment: the settings.
        folder: of the run. Where it has no config.yaml, settings.yaml is written in its place.
        monitor: hears of the progress.
        text: the settings as in config.yaml, from which another process can build sites; None
            where there is no other process.

    Attributes:
        blueprint: what follows from the settings alone.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, monitor: Monitor, *, text: str | None = None
    ) -> None:
        self.experiment = experiment
        self.blueprint = Blueprint(experiment, init=first_weights(folder))
        self.folder = folder
        self.monitor = monitor
        self.text = text
        self.run_id = secrets.token_hex(8)

    def start(self) -> dict[str, Any]:
        """Run from the beginning, or from the last checkpoint where there is one.

        `lightning_fl.fit` does the same and refuses a folder that holds another run.

        Returns:
            The content of results.json.

        Raises:
            ConfigError: the checkpoint belongs to another network.
            SiteError: a site cannot take part.
            TooFewSitesError: too few sites were left in a round; the run is saved.
        """
        state = self.state()
        is_new = state.run == self.run_id  # a checkpoint has the id of its run
        if is_new and not self._has_config:
            describe_into(self.folder, self.experiment)
        checkpoints = Checkpoints(self.folder / CHECKPOINTS)
        if self.experiment.init is not None and first_weights(self.folder) is None:
            # The file may change or go; sites that train later, and --resume, need it as it was.
            content = weights_file(self.experiment.init).read_bytes()
            write_bytes(self.folder / INIT, content)
        for name in (REPORT, CASES, *AUDIT_FILES):  # they are there once the run is whole
            (self.folder / name).unlink(missing_ok=True)
        self.run_id = state.run
        audit = self.prepared_audit()  # refuses what it cannot attack before anything is trained
        self._tell_loggers()
        data, seed = self.experiment.data, self.experiment.seed
        keep_preprocessing(self.folder, data, self._sites, seed)
        results = self._with_federation(checkpoints, state, lambda f: self._federate(f, state))
        self._keep_models(state)
        keep_cases(self.folder, results.get("cases", ()))
        if self.experiment.evaluation.volumes and not self.experiment.engine.sites:
            results = self._with_volumes(results)
        self._write_report()
        if audit is not None:  # it may fail, and what was trained is to be read all the same
            audit.run(self._finished(), self.monitor)
            self._write_report()
        self.monitor.on_run_end(results=results, run=str(self.folder))
        return results

    def state(self) -> RunState:
        """Return where the run stands: its last checkpoint, or the beginning.

        Raises:
            ConfigError: the checkpoint is damaged or does not belong to these settings.
        """
        layout, plan = self.blueprint.layout, self.blueprint.plan
        state = Checkpoints(self.folder / CHECKPOINTS).latest() or self._first_state()
        if state.fingerprint != layout.fingerprint:
            raise ConfigError(
                f"The run in {self.folder} has another network (layout {state.fingerprint}) than "
                f"these settings (layout {layout.fingerprint}). Resume it with the network it "
                "began with, or start a new run in another folder."
            )
        if state.sites and set(state.sites) != set(plan.everyone):
            raise ConfigError(
                f"The run in {self.folder} began with the hospitals {sorted(state.sites)}, but the "
                f"data have {list(plan.everyone)}. Start a new run that goes on from its model: "
                f"--init {self.folder}."
            )
        if state.round > plan.rounds:
            raise ConfigError(
                f"The run in {self.folder} has {state.round} rounds already, but `rounds` is "
                f"{plan.rounds}. Give at least {state.round}."
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
            return self._with_federation(checkpoints, self._first_state(), lambda f: f.check())

    def prepared_audit(self) -> PreparedAudit | None:
        """Return the audit, with everything checked that can be; None without one.

        Raises:
            ConfigError: it cannot attack this task or these data.
        """
        experiment = self.experiment
        if experiment.audit is None:
            return None
        if self.text is None and not self._has_config:
            check_builds_nothing(experiment.audit)
        template, protection = self.blueprint.template, self._protection()
        return prepare_audit(
            experiment.audit, template, experiment.data, protection, experiment.seed
        )

    def _protection(self) -> Protection:
        blueprint = self.blueprint
        privacy = self.experiment.privacy
        shares = "updates" if blueprint.layout.length else "nothing"
        return Protection(
            blueprint.aggregator.describe(),
            blueprint.plan.sites_per_round,
            type(privacy).__name__ if privacy else "",
            "data" if blueprint.algorithm.pools_data else shares,
        )

    def _first_state(self) -> RunState:
        return self.blueprint.first_state(self.run_id)

    def _federate(self, federation: Federation, state: RunState) -> dict[str, Any]:
        federation.check()
        return federation.run(state)

    def _with_federation(
        self, checkpoints: Checkpoints, state: RunState, act: Callable[[Federation], T]
    ) -> T:
        blueprint, engine = self.blueprint, self.experiment.engine
        account = blueprint.privacy.account(checkpoints.folder)
        recorder = self._recorder(state, account)

        def coordinate(transport: Transport) -> T:
            channel = Channel(
                transport,
                run=self.run_id,
                timeout=engine.timeout,
                on_cost=recorder.costs.append,
                on_message=recorder.messages.append,
                monitor=self.monitor,
            )
            averaging = Averaging(
                blueprint.plan,
                blueprint.layout,
                blueprint.algorithm,
                blueprint.aggregator,
                account,
                blueprint.privacy.repair,
            )
            evaluation = self.experiment.evaluation
            return act(
                Federation(blueprint.plan, averaging, evaluation, channel, checkpoints, recorder)
            )

        status = "failed"
        try:
            outcome = engine.run(coordinate, self.site_maker(), blueprint.plan.everyone)
            status = "success"
        finally:
            recorder.close(status)
        return outcome

    def site_maker(self) -> Callable[[str], Site]:
        """Return what builds sites where the engine has them live.

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
        return self.blueprint.make_site(name, self.run_id, self.folder / SITES / name)

    def _recorder(self, state: RunState, account: PrivacyAccount) -> Recorder:
        blueprint = self.blueprint
        recorder = Recorder(
            self.folder,
            training_sites=blueprint.plan.evaluating,
            unseen=blueprint.plan.unseen,
            aggregator={**blueprint.aggregator.describe(), "values": blueprint.layout.length},
            loggers=self.experiment.loggers,
            privacy=account.summary,
        )
        if state.round or any(state.rows):
            recorder.resume(state.rows)
        return recorder

    def _tell_loggers(self) -> None:
        """Give the loggers their place in the run's folder, its id and its settings.

        Raises:
            ConfigError: a logger cannot begin, e.g. because its server does not answer.
        """
        settings = self._finished().config
        for logger in self.experiment.loggers:
            try:
                if isinstance(logger, RunLogger):
                    logger.bind(self.folder, self.run_id)
                logger.log_hyperparams(settings)
            except Exception as error:  # of any kind: each tracker has its own
                raise ConfigError(
                    f"The logger {type(logger).__name__} could not begin: {error}. Correct its "
                    "settings, or leave it out of `loggers`."
                ) from error

    def _write_report(self) -> None:
        self.monitor.on_operation(operation="write the report")
        write_report(self.folder)

    @property
    def _has_config(self) -> bool:
        """Whether a file tells how the task is built."""
        return (self.folder / CONFIG).is_file()

    def _finished(self) -> FinishedRun:
        """Return the run's files, with the task where no file tells how it is built."""
        return FinishedRun(self.folder, None if self._has_config else self.blueprint.template)

    @property
    def _sites(self) -> tuple[str, ...]:
        """The hospitals that are evaluated in the end, those that never trained last."""
        return (*self.blueprint.plan.evaluating, *self.blueprint.plan.unseen)

    def _keep_models(self, state: RunState) -> None:
        """Put the global and every site's personal model into models/."""
        blueprint = self.blueprint
        self.monitor.on_operation(operation="keep models")
        if not blueprint.algorithm.trains_alone:
            extra = blueprint.layout.extra
            template = {k: v for k, v in blueprint.template.state_dict().items() if k not in extra}
            shared = from_vector(state.best_weights, blueprint.layout)
            shared = {k: v for k, v in shared.items() if k not in extra}
            round_ = max(state.best.values(), default=state.round)
            keep_shared_model(self.folder, template, shared, round_)
        for name in self._sites:
            keep_models_of(self.folder, name)

    def _with_volumes(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the results with `volumes`, where the data hold whole scans."""
        plan = self.blueprint.plan
        rows = evaluate_volumes(
            self._finished(),
            self.experiment.data,
            sites=plan.evaluating,
            unseen=plan.unseen,
            evaluation=self.experiment.evaluation,
            seed=self.experiment.seed,
            monitor=self.monitor,
        )
        if not rows:
            return results
        whole = results | {"volumes": summary(rows, plan.evaluating)}
        write_results(self.folder / "results.json", whole)
        return whole
