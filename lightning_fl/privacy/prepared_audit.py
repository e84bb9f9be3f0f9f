"""An audit that has passed its checks: it attacks, and writes down what came of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from lightning_fl.atomic import write_bytes, write_text
from lightning_fl.csv_files import write_csv
from lightning_fl.finished_run import FinishedRun
from lightning_fl.monitor import Monitor
from lightning_fl.privacy.audit_record import outcome_records, view_records
from lightning_fl.privacy.distinguish import Game, Outcome
from lightning_fl.privacy.trials import Attack, Candidates, Shown, TrialRow
from lightning_fl.seeds import derive_seed

AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES = "audit.csv", "audit.json", "audit.safetensors"


@dataclass(frozen=True)
class PreparedAudit:
    """An audit that is ready to run.

    Attributes:
        settings: of the audit, by name.
        attack: on one round, with the run's first weights.
        candidates: the images.
        seed: of the run.
    """

    settings: Mapping[str, Any]
    attack: Attack
    candidates: Candidates
    seed: int

    def run(self, run: FinishedRun, monitor: Monitor, round_: int) -> None:
        """Attack, and write audit.csv, audit.json and the pictures into the run's folder.

        Args:
            run: whose settings give the task anew for other seeds.
            monitor: hears of each trial.
            round_: the run's last, for the monitor.
        """
        trials = self.settings["seeds"] * self.settings["trials"]
        monitor.on_operation(round_=round_, operation="audit", sites=trials)
        rows: list[TrialRow] = []
        shown: list[Mapping[str, Shown]] = []
        for found, pictures in self._trials(run):
            rows += found
            shown.append(pictures)
            name, seconds = f"trial {len(shown)}", sum(row.seconds for row in found)
            monitor.on_site_done(site=name, operation="audit", seconds=seconds)
        write_csv(run.folder / AUDIT_CSV, TrialRow._fields, rows)
        if self.settings["pictures"]:
            content = safetensors.torch.save(_pictures(self._chosen(shown)))
            write_bytes(run.folder / AUDIT_PICTURES, content)
        record = self._record(rows, self._distinguish())
        write_text(run.folder / AUDIT_JSON, json.dumps(record, indent=2) + "\n")

    def _trials(self, run: FinishedRun) -> Iterator[tuple[list[TrialRow], dict[str, Shown]]]:
        """All trials of the first seed, which is the run's own, then those of the next."""
        trials = self.settings["trials"]
        for number in range(self.settings["seeds"]):
            attack = self._attack(run, number)
            for trial in range(trials):
                seed = derive_seed(self.seed, "audit", number * trials + trial)
                yield attack.trial(trial, self.candidates, self._drawn(seed), seed=seed)

    def _attack(self, run: FinishedRun, number: int) -> Attack:
        if number == 0:
            return self.attack
        seed = self.seed + number
        return replace(self.attack, template=run.fresh_task(seed), weights_seed=seed)

    def _drawn(self, seed: int) -> list[int]:
        """Numbers of the images of a trial's sites."""
        order = np.random.default_rng(seed).permutation(len(self.candidates.images))
        drawn: list[int] = order[: self.attack.sites_needed].tolist()
        return drawn

    def _chosen(self, shown: Sequence[Mapping[str, Shown]]) -> list[Mapping[str, Shown]]:
        """The trials whose pictures are shown: the first of each seed, then the second, ..."""
        trials = self.settings["trials"]
        in_turn = sorted(range(len(shown)), key=lambda number: number % trials)
        return [shown[number] for number in in_turn[: self.settings["pictures"]]]

    def _distinguish(self) -> list[Outcome]:
        game = Game(derive_seed(self.seed, "distinguish"))
        trials = self.settings["distinguishing"]
        return [game.play(view, trials) for view in game.observers()] if trials else []

    def _record(self, rows: Sequence[TrialRow], outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """What audit.json holds."""
        count = len(self.candidates.images)
        common = int(self.candidates.labels.bincount().max()) / count
        facts = {"candidates": count, "common_label": common, "lr": self.attack.lr}
        return {
            "settings": {**self.settings, **facts},
            "views": view_records(rows, count),
            "distinguishing": outcome_records(outcomes),
            "seconds": sum(row.seconds for row in rows),
        }


def _pictures(shown: Sequence[Mapping[str, Shown]]) -> dict[str, Tensor]:
    """By view, the true images and the reconstructions of some trials, (trials, C, H, W)."""
    found: dict[str, Tensor] = {}
    for view in shown[0]:
        found[f"{view}/truth"] = torch.stack([pictures[view].truth for pictures in shown])
        found[f"{view}/found"] = torch.stack([pictures[view].found for pictures in shown]).float()
    return found
