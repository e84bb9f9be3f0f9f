"""An audit that has passed its checks: it attacks, and writes down what came of it."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
import safetensors.torch

from lightning_fl.audit.active.active_audit import ActiveAudit, small_images
from lightning_fl.audit.audit_settings import Audit
from lightning_fl.audit.membership.model_attacks import ModelAttacks
from lightning_fl.audit.protection import Protection
from lightning_fl.audit.requirements import check_readable, sgd_rate
from lightning_fl.audit.trial_images import draw_images
from lightning_fl.audit.trial_series import TrialSeries
from lightning_fl.audit.trials import Pictures, TrialAttack, TrialRow
from lightning_fl.audit.verdicts import by_view
from lightning_fl.audit.views.distinguish import Game
from lightning_fl.audit.views.guesses import MEANS
from lightning_fl.audit.views.ring_observers import OBSERVERS
from lightning_fl.data.module import FederatedDataModule
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

    It plays rounds of its own beside the run, not inside it: what it needs to look into must never
    be there in an ordinary run.

    Attributes:
        settings: of the audit.
        protection: of the run's updates.
        series: trials with single images; None for none.
        models: membership inference; None for none.
        active: attacks of a coordinator that lies; None for none.
        seed: of the run.
    """

    settings: Audit
    protection: Protection
    series: TrialSeries | None
    models: ModelAttacks | None
    seed: int
    active: ActiveAudit | None = None

    def run(self, run: FinishedRun, monitor: Monitor) -> None:
        """Attack, and write audit.json, audit.csv and the pictures into the run's folder.

        The run's settings give the task anew. The monitor hears of each trial.

        Raises:
            DataError: an attack cannot be made, e.g. of weights that are not finite.
        """
        for name in AUDIT_FILES:  # of a run that is resumed
            (run.folder / name).unlink(missing_ok=True)
        try:
            record = self._record(run, monitor)
        except FAILURES as error:
            raise DataError(
                f"The run in {run.folder} is whole and has its report, but its audit failed: "
                f"{error} Go on with --resume {run.folder} and `--audit.trials 0`, "
                "`--audit.membership false` or `--audit null`, or as it was to try again."
            ) from error
        write_text(run.folder / AUDIT_JSON, json.dumps(record, indent=2) + "\n")

    def _record(self, run: FinishedRun, monitor: Monitor) -> dict[str, Any]:
        """Attack, and return the content of audit.json."""
        return {
            "run": self.protection.record(),
            **self._views(run, monitor),
            "distinguishing": self._distinguish(monitor),
            "membership": self._attack_models(run, monitor),
            "active": self._lie(monitor),
        }

    def _views(self, run: FinishedRun, monitor: Monitor) -> dict[str, Any]:
        """Play the trials, and return their part of audit.json."""
        settings, series = asdict(self.settings), self.series
        if series is None:
            return {"settings": settings, "views": [], "seconds": 0.0}
        monitor.on_operation(operation="audit", total=len(series), unit="trials")
        rows: list[TrialRow] = []
        shown: list[Pictures] = []
        for trial_rows, pictures in series.play(run):
            rows += trial_rows
            shown.append(pictures)
            monitor.on_part_done()
        write_csv(run.folder / AUDIT_CSV, TrialRow._fields, rows)
        if tensors := series.pictures(shown):
            write_bytes(run.folder / AUDIT_PICTURES, safetensors.torch.save(tensors))
        images = series.attack.images
        facts = {"common_label": images.common_label, "lr": series.attack.lr}
        return {
            "settings": {**settings, "candidates": len(images), **facts},
            "views": [view.record() for view in by_view(rows, images.common_label)],
            "seconds": sum(row.seconds for row in rows),
        }

    def _distinguish(self, monitor: Monitor) -> list[dict[str, Any]]:
        trials, ring = self.settings.distinguishing, self.protection
        if not trials:
            return []
        monitor.on_operation(operation="tell two updates apart")
        game = Game(derive_seed(self.seed, "distinguish"), ring.bits, ring.ring_sites)
        return [game.play(view, trials).record() for view in OBSERVERS]

    def _lie(self, monitor: Monitor) -> list[dict[str, Any]]:
        if self.active is None:
            return []
        monitor.on_operation(operation="play a coordinator that lies")
        return self.active.record()

    def _attack_models(self, run: FinishedRun, monitor: Monitor) -> list[dict[str, Any]]:
        if self.models is None:
            return []
        monitor.on_operation(operation="membership inference")
        return [result.record() for result in self.models.attack(run)]


def prepare_audit(
    settings: Audit,
    template: pl.LightningModule,
    data: FederatedDataModule,
    protection: Protection,
    seed: int,
) -> PreparedAudit:
    """Check everything that can be checked, before anything is trained.

    The template has the run's first weights. Trials take over the `bits` of the run's ring.

    Raises:
        ConfigError: the task or its data are not what the audit can attack.
    """
    series = None
    if settings.trials:
        lr = sgd_rate(template)
        images = draw_images(data, settings.candidates, max(settings.sites, *MEANS), seed)
        check_readable(template, images)
        series = TrialSeries(TrialAttack(template, seed, lr, settings, images, protection.bits))
    models = ModelAttacks(data, settings.shadows, seed) if settings.membership else None
    active = None
    if settings.active:
        active = ActiveAudit(small_images(data, seed), protection.bits, seed)
    return PreparedAudit(settings, protection, series, models, seed, active)
