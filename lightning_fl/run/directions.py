"""One federation for each direction that scans are cut in, and the mean of what they see."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.coordinator.plan import Plan
from lightning_fl.errors import ConfigError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.run_volumes import evaluate_volumes
from lightning_fl.results.report.report import write_report
from lightning_fl.results.summary import read_results, summarise, write_results
from lightning_fl.results.tables import read_costs
from lightning_fl.results.volume_tables import VolumeRow, final_direction, summary
from lightning_fl.run.config import MAY_CHANGE, Settings, read_settings
from lightning_fl.run.run import Run
from lightning_fl.run_files import AUDIT_JSON, REPORT, SITES
from lightning_fl.site.store import SiteStore
from lightning_fl.wire.messages import Message
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.records import MetricRow
from lightning_fl.wire.versions import machine, package_versions


class DirectionRuns:
    """The runs of an experiment whose `directions` are not empty, each in a folder of its own.

    A 2.5-D net sees a scan from one direction, so three directions are three federations. Folders
    such as RUN/axial/ are ordinary runs, which may be looked at and resumed by themselves. No part
    of a round knows of directions. RUN/ has the mean of all directions: masks/, volumes.csv,
    results.json and report.html.

    Args:
        settings: of the experiment.
        make_monitor: makes what hears of one run's progress, by the name of its direction.
    """

    def __init__(self, settings: Settings, make_monitor: Callable[[str], Monitor]) -> None:
        self.settings = settings
        self.make_monitor = make_monitor
        self.values: dict[str, Any] = yaml.safe_load(settings.text)
        self.directions = tuple(settings.experiment.directions)
        if len(set(self.directions)) < len(self.directions):
            raise ConfigError(f"Expected different `directions`, but got {list(self.directions)}.")
        if not settings.experiment.evaluation.volumes:
            raise ConfigError(
                "`evaluation.volumes` is false, but `directions` are put together on whole scans. "
                "Set it to true, or `directions` to []."
            )
        if settings.experiment.engine.sites:
            raise ConfigError(
                "`directions` are put together on whole scans, but the data are at the hospitals. "
                "Set `directions` to [] and start a run for each `data.direction`."
            )
        if "direction" not in (self.values["data"].get("init_args") or {}):
            raise ConfigError(
                f"`directions` is {list(self.directions)}, but {self.values['data']['class_path']} "
                "has no setting `direction`. Use datamodules.CTFolder, or set `directions` to []."
            )

    def validate(self) -> Mapping[str, Message]:
        """Check each direction; see `Run.validate`.

        Returns:
            What each site says about itself, of the last direction.
        """
        answers: Mapping[str, Message] = {}
        for direction in self.directions:
            folder = self.settings.folder / direction
            arguments = [*self._arguments(direction), "--output", str(folder), "--validate"]
            with closing(self.make_monitor(direction)) as monitor:
                answers = self._run(read_settings(arguments), monitor).validate()
        return answers

    def start(self) -> None:
        """Run what has not been run yet, then put the directions together.

        Raises:
            ConfigError: a setting cannot work; nothing has been trained then.
        """
        folder = self.settings.folder
        members = [self._member(direction) for direction in self.directions]
        self.settings.save()
        for direction, member in zip(self.directions, members, strict=True):
            if self._is_finished(member):
                continue
            with closing(self.make_monitor(direction)) as monitor:
                run = self._run(member, monitor)
                run.state()  # refuses what cannot be resumed before config.yaml is written
                member.save()
                run.start()
        with closing(self.make_monitor("all directions")) as monitor:
            self._put_together(folder, monitor)

    def _put_together(self, folder: Path, monitor: Monitor) -> None:
        experiment = self.settings.experiment
        plan = experiment.plan()
        self._check_patients(plan)
        rows = evaluate_volumes(
            FinishedRun(folder),
            experiment.data,
            sites=plan.evaluating,
            unseen=plan.unseen,
            evaluation=experiment.evaluation,
            seed=experiment.seed,
            monitor=monitor,
        )
        if not rows:
            raise ConfigError(
                f"{type(experiment.data).__name__} holds no whole scans to put the directions "
                "together in; set `directions` to []."
            )
        results = self._results(plan, rows)
        write_results(folder / "results.json", results)
        monitor.on_operation(operation="write the report")
        write_report(folder)
        monitor.on_run_end(results=results, run=str(folder))

    def _check_patients(self, plan: Plan) -> None:
        """Every direction has trained, validated and tested on the patients of now.

        Raises:
            DataError: it has not; a training patient could be tested.
        """
        experiment = self.settings.experiment
        for site in (*plan.evaluating, *plan.unseen):
            split = experiment.data.for_site(site, experiment.seed).split_by_site()
            for direction in self.directions:
                store = SiteStore(self.settings.folder / direction / SITES / site)
                store.check_split(split)

    def _results(self, plan: Plan, rows: Sequence[VolumeRow]) -> dict[str, Any]:
        """Scores of the mean of all directions, as one federation's results.json has its own."""
        members = [self.settings.folder / direction for direction in self.directions]
        volumes = summary(rows, plan.evaluating)
        results = summarise(
            final=[
                MetricRow(plan.rounds, site, model, "test", metric, value)
                for site, models in volumes["sites"].items()
                for model, directions in models.items()
                for metric, value in directions[final_direction(directions)].items()
            ],
            training_sites=plan.evaluating,
            unseen=plan.unseen,
            rounds=plan.rounds,
            best_round=None,
            costs=[row for member in members for row in read_costs(member / "costs.csv")],
            aggregator=self.settings.experiment.aggregator.describe(),
            personalisation={},
            dropped=[loss for m in members for loss in read_results(m / "results.json")["dropped"]],
            versions=package_versions(),
        )
        more = {"directions": list(self.directions), "volumes": volumes, "machine": machine()}
        return results | more

    def _run(self, member: Settings, monitor: Monitor) -> Run:
        return Run(member.experiment, member.folder, monitor, text=member.text)

    def _member(self, direction: str) -> Settings:
        """Read the settings of one direction, which goes on where it stopped."""
        folder = self.settings.folder / direction
        if any(folder.glob("checkpoints/round-*")):  # so this is --resume
            may_change = yaml.safe_dump(_only(self.values, MAY_CHANGE - {"output"}))
            return read_settings(["--resume", str(folder), "--config", may_change])
        return read_settings([*self._arguments(direction), "--output", str(folder)])

    def _arguments(self, direction: str) -> list[str]:
        """Return the command line of one direction, complete in itself."""
        values = json.loads(json.dumps(self.values))
        values["directions"] = []
        values["data"]["init_args"]["direction"] = direction
        values["evaluation"]["volumes"] = False
        values["output"] = None
        return ["--config", yaml.safe_dump(values)]

    def _is_finished(self, member: Settings) -> bool:
        """Whether a direction has all its rounds, its report and, where there is one, its audit."""
        results, audited = member.folder / "results.json", member.experiment.audit is not None
        needed = [results, member.folder / REPORT]
        needed += [member.folder / AUDIT_JSON] if audited else []
        if not all(file.is_file() for file in needed):
            return False
        outcome = read_results(results)
        rounds, best = int(outcome["rounds"]), outcome["best_round"]
        stopped = best is not None and member.experiment.evaluation.is_enough(rounds, best)
        return stopped or rounds == member.experiment.rounds


def _only(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the settings of these names that there are; "a.b" is b inside of a."""
    chosen: dict[str, Any] = {}
    for outer in {name.partition(".")[0] for name in names} & values.keys():
        inner = {name.partition(".")[2] for name in names if name.partition(".")[0] == outer}
        chosen[outer] = values[outer] if inner == {""} else _only(values[outer], inner)
    return chosen
