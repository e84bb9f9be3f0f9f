"""Keeps a run's numbers and writes them down: the CSV files, results.json, loggers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from lightning_fl.coordinator.checkpoint import RunState
from lightning_fl.results.case_statistics import SiteCases
from lightning_fl.results.run_logger import RunLogger
from lightning_fl.results.summary import Curves, summarise, write_results
from lightning_fl.results.tables import (
    read_costs,
    read_metrics,
    read_transcript,
    write_costs,
    write_metrics,
    write_transcript,
)
from lightning_fl.wire.messages import Message
from lightning_fl.wire.records import TRAINING, CostRow, MetricRow, TranscriptRow
from lightning_fl.wire.versions import machine, package_versions

_log = logging.getLogger(__name__)


class Recorder:
    """The numbers of a run.

    Args:
        folder: of the run.
        training_sites: names of the sites whose mean and worst are reported.
        unseen: names of the sites that only personalise.
        aggregator: what results.json says about the aggregator.
        loggers: Lightning loggers that get every round's metrics, keyed site/model/split/metric,
            with the round as the step.
        privacy: gives what results.json says about differential privacy, {} for nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        training_sites: Sequence[str],
        unseen: Sequence[str],
        aggregator: Mapping[str, Any],
        loggers: Sequence[Logger] = (),
        privacy: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.folder = folder
        self.training_sites = training_sites
        self.unseen = unseen
        self.aggregator = aggregator
        self.loggers = loggers
        self.privacy = privacy
        self.metrics: list[MetricRow] = []
        self.costs: list[CostRow] = []
        self.messages: list[TranscriptRow] = []
        self.versions = package_versions()

    @property
    def rows(self) -> tuple[int, int, int]:
        """How many metrics, costs and messages there are."""
        return len(self.metrics), len(self.costs), len(self.messages)

    def resume(self, rows: tuple[int, int, int]) -> None:
        """Read the rows of the rounds that are done; what a killed round added is dropped."""
        self.metrics = read_metrics(self.folder / "metrics.csv")[: rows[0]]
        self.costs = read_costs(self.folder / "costs.csv")[: rows[1]]
        self.messages = read_transcript(self.folder / "transcript.csv")[: rows[2]]

    def add(self, rows: Sequence[MetricRow]) -> None:
        """Take a round's (or the final) metrics and pass them on to the loggers."""
        self.metrics.extend(rows)
        for step in sorted({row.round for row in rows}):
            self._log([row for row in rows if row.round == step], step)

    def add_training(self, round_: int, answers: Mapping[str, Message]) -> None:
        """Take the training curves of a round from the sites' answers.

        Speed goes to the loggers alone: metrics.csv repeats from run to run, and costs.csv holds
        the seconds.
        """
        rows, speeds = [], []
        for site, answer in answers.items():
            curves = answer.info.get("curves", {})
            rows += [_training_row(round_, site, k, float(v)) for k, v in curves.items()]
            if curves and (seconds := float(answer.info["seconds"]["fit"])):
                speed = {"seconds": seconds, "samples_per_second": curves["samples"] / seconds}
                speeds += [_training_row(round_, site, k, v) for k, v in speed.items()]
        self.metrics.extend(rows)
        self._log([*rows, *speeds], round_)

    def _log(self, rows: Sequence[MetricRow], step: int) -> None:
        values = {f"{r.site}/{r.model}/{r.split}/{r.metric}": r.value for r in rows}
        for logger in self.loggers if values else ():
            try:
                logger.log_metrics(values, step=step)
            except Exception as error:  # a tracker's trouble must not cost computed results
                name = type(logger).__name__
                _log.warning("%s could not log round %s: %s", name, step, error)

    def write(
        self,
        state: RunState,
        final: Sequence[MetricRow],
        personalisation: Mapping[str, Mapping[str, Any]],
        new_hospital: Curves | None = None,
        cases: Mapping[str, SiteCases] | None = None,
    ) -> dict[str, Any]:
        """Write the files, each in one step.

        Args:
            state: of the coordinator.
            final: the rows that results.json is made of.
            personalisation: what each site chose.
            new_hospital: test metrics of sites that did not train, by number of patients.
            cases: statistics over the patients of each site.

        Returns:
            What results.json holds.
        """
        new = new_hospital or {}
        rounds = {site: int(choice["round"]) for site, choice in personalisation.items()}
        self.add(new_hospital_rows(new, rounds))
        write_metrics(self.folder / "metrics.csv", self.metrics)
        write_costs(self.folder / "costs.csv", self.costs)
        write_transcript(self.folder / "transcript.csv", self.messages)
        best = set(state.best.values())
        results: dict[str, Any] = summarise(
            final=final,
            training_sites=self.training_sites,
            unseen=self.unseen,
            rounds=state.round,
            best_round=best.pop() if len(best) == 1 else None,
            costs=self.costs,
            aggregator={**self.aggregator, "rounds": state.aggregations},
            personalisation=personalisation,
            dropped=state.dropped,
            gradients=state.gradients,
            versions=self.versions,
        )
        results["machine"] = machine()
        results["new_hospital"] = {site: dict(curve) for site, curve in sorted(new.items())}
        if cases:
            results["cases"] = {site: cases[site] for site in sorted(cases)}
        if privacy := dict(self.privacy()):
            results["privacy"] = privacy
        write_results(self.folder / "results.json", results)
        return results

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Give the loggers what results.json holds at the end."""
        for logger in self.loggers:
            if not isinstance(logger, RunLogger):
                continue
            try:
                logger.log_results(results, self.folder)
            except Exception as error:
                _log.warning("%s could not log the final scores: %s", type(logger).__name__, error)

    def close(self, status: str) -> None:
        """Tell the loggers that the run is over: "success" or "failed"."""
        for logger in self.loggers:
            try:
                logger.finalize(status)
            except Exception as error:
                _log.warning("%s could not be closed: %s", type(logger).__name__, error)


def _training_row(round_: int, site: str, metric: str, value: float) -> MetricRow:
    return MetricRow(round_, site, TRAINING, "train", metric, value)


def new_hospital_rows(curves: Curves, rounds: Mapping[str, int]) -> list[MetricRow]:
    """Rows of metrics.csv: the model personalised with k patients is called "personal@k".

    Args:
        curves: with "0", the model as it came, which has its rows already.
        rounds: of the model, by site.
    """
    return [
        MetricRow(rounds[site], site, f"personal@{count}", "test", metric, value)
        for site, curve in curves.items()
        for count, metrics in curve.items()
        if count != "0"
        for metric, value in metrics.items()
    ]
