"""An audit that has passed its checks: it attacks, and writes down what came of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch

from lightning_fl.audit.audit_record import outcome_records, view_records
from lightning_fl.audit.membership.model_attacks import ModelAttacks
from lightning_fl.audit.protection import Protection
from lightning_fl.audit.trial_series import Pictures, TrialSeries
from lightning_fl.audit.trials import TrialRow
from lightning_fl.audit.views.distinguish import OBSERVERS, Game, Outcome
from lightning_fl.errors import (
    ConfigError,
    DataError,
    NonFiniteError,
    OutOfRangeError,
    SiteError,
    TooFewSitesError,
)
from lightning_fl.files import write_bytes, write_csv, write_text
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run_files import AUDIT_CSV, AUDIT_FILES, AUDIT_JSON, AUDIT_PICTURES
from lightning_fl.seeds import derive_seed
from lightning_fl.wire.monitor import Monitor

FAILURES = (ConfigError, DataError, NonFiniteError, OutOfRangeError, SiteError, TooFewSitesError)
"""What a trained model or an image can do to an audit that has passed its checks."""


@dataclass(frozen=True)
class PreparedAudit:
    """An audit that is ready to run.

    Attributes:
        settings: of the audit, by name.
        protection: of the run's updates.
        series: trials with single images; None for none.
        models: membership inference; None for none.
        seed: of the run.
    """

    settings: Mapping[str, Any]
    protection: Protection
    series: TrialSeries | None
    models: ModelAttacks | None
    seed: int

    def run(self, run: FinishedRun, monitor: Monitor, round_: int) -> None:
        """Attack, and write audit.json, audit.csv and the pictures into the run's folder.

        Args:
            run: with its models; its settings give the task anew.
            monitor: hears of each trial.
            round_: the run's last, for the monitor.

        Raises:
            DataError: an attack cannot be made, e.g. of weights that are not finite.
        """
        for name in AUDIT_FILES:  # of a run that is resumed
            (run.folder / name).unlink(missing_ok=True)
        try:
            record = self._record(run, monitor, round_)
        except FAILURES as error:
            raise DataError(
                f"The run in {run.folder} is whole and has its report, but its audit failed: "
                f"{error} Go on with --resume {run.folder} and `--audit.trials 0`, "
                "`--audit.membership false` or `--audit null`, or as it was to try again."
            ) from error
        write_text(run.folder / AUDIT_JSON, json.dumps(record, indent=2) + "\n")

    def _record(self, run: FinishedRun, monitor: Monitor, round_: int) -> dict[str, Any]:
        """What audit.json holds.

        Raises:
            DataError: and others of `FAILURES`.
        """
        views = self._views(run, monitor, round_)
        outcomes = outcome_records(self._distinguish())
        members = self.models.attack(run) if self.models else []
        return {
            "run": self.protection.record(),
            **views,
            "distinguishing": outcomes,
            "membership": [found.record() for found in members],
        }

    def _views(self, run: FinishedRun, monitor: Monitor, round_: int) -> dict[str, Any]:
        """Play the trials; gives their part of audit.json."""
        if self.series is None:
            return {"settings": dict(self.settings), "views": [], "seconds": 0.0}
        monitor.on_operation(round_=round_, operation="audit", sites=len(self.series))
        rows: list[TrialRow] = []
        shown: list[Pictures] = []
        for found, pictures in self.series.play(run):
            rows += found
            shown.append(pictures)
            name, seconds = f"trial {len(shown)}", sum(row.seconds for row in found)
            monitor.on_site_done(site=name, operation="audit", seconds=seconds)
        write_csv(run.folder / AUDIT_CSV, TrialRow._fields, rows)
        self._keep_pictures(run, self.series, shown)
        facts = self.series.facts()
        return {
            "settings": {**self.settings, **facts},
            "views": view_records(rows, facts["common_label"]),
            "seconds": sum(row.seconds for row in rows),
        }

    def _keep_pictures(
        self, run: FinishedRun, series: TrialSeries, shown: Sequence[Pictures]
    ) -> None:
        if tensors := series.pictures(shown, self.settings["pictures"]):
            write_bytes(run.folder / AUDIT_PICTURES, safetensors.torch.save(tensors))

    def _distinguish(self) -> list[Outcome]:
        trials, ring = self.settings["distinguishing"], self.protection
        game = Game(derive_seed(self.seed, "distinguish"), ring.bits, ring.ring_sites)
        return [game.play(view, trials) for view in OBSERVERS] if trials else []
