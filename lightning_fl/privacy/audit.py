"""The audit of a run: the same attack on what every party really sees, with a positive control."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import Tensor

from lightning_fl.aggregation import Aggregator, CyclicCKKS
from lightning_fl.algorithms import Algorithm
from lightning_fl.atomic import write_bytes, write_text
from lightning_fl.csv_files import write_csv
from lightning_fl.data import FederatedDataModule
from lightning_fl.errors import ConfigError
from lightning_fl.monitor import Monitor
from lightning_fl.privacy.audit_checks import (
    candidates_of,
    check_readable,
    sgd_rate,
    value_range,
)
from lightning_fl.privacy.distinguish import LEAST_TRIALS, Game, Outcome
from lightning_fl.privacy.trials import Attack, Candidates, Shown, TrialRow
from lightning_fl.privacy.verdicts import WORDS, Summary, summarise
from lightning_fl.privacy.views import MEANS, VIEWS
from lightning_fl.seeds import derive_seed

AUDIT_CSV, AUDIT_JSON, AUDIT_PICTURES = "audit.csv", "audit.json", "audit.safetensors"


class Audit:
    """Attacks, after training, what each party of a federation sees of single images.

    Each trial runs a round of FedAvg over sites with one image each, drawn from the training
    images of all hospitals: one step of the task's own SGD from the run's first weights, which is
    the most that an attacker can hope for. The round's messages are recorded, in the clear and
    in rings with each kind of mask, and attacked by iDLG from each party's view.

    For tasks with labels and images of two dimensions. The report shows true training images.

    Args:
        trials: rounds with other images.
        sites: of the ring that is looked into, at least 3; 5 leave two honest sites where the
            initiator and both neighbours of one collude.
        local_steps: of the view of an update after several steps.
        iterations: of L-BFGS.
        candidates: images that trials draw from, and that identification chooses among.
        distinguishing: trials of each distinguishing test, at least 1000; 0 for none.
        pictures: trials whose images the report shows.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        trials: int = 5,
        sites: int = 5,
        local_steps: int = 3,
        iterations: int = 150,
        candidates: int = 32,
        distinguishing: int = LEAST_TRIALS,
        pictures: int = 3,
    ) -> None:
        if sites < 3:
            raise ConfigError(
                f"Expected `audit.sites` to be at least 3, but got {sites}: with two, the mean "
                "gives each the other's update, and there is nothing to protect."
            )
        least = {"trials": 1, "local_steps": 2, "iterations": 1, "candidates": 8, "pictures": 0}
        given = {
            "trials": trials,
            "local_steps": local_steps,
            "iterations": iterations,
            "candidates": candidates,
            "pictures": pictures,
        }
        for name, value in given.items():
            if value < least[name]:
                raise ConfigError(
                    f"Expected `audit.{name}` to be at least {least[name]}, but got {value}."
                )
        if 0 != distinguishing < LEAST_TRIALS:
            raise ConfigError(
                f"Expected `audit.distinguishing` to be 0 or at least {LEAST_TRIALS}, but got "
                f"{distinguishing}."
            )
        self.trials = trials
        self.sites = sites
        self.local_steps = local_steps
        self.iterations = iterations
        self.candidates = candidates
        self.distinguishing = distinguishing
        self.pictures = pictures

    def prepare(
        self,
        template: pl.LightningModule,
        data: FederatedDataModule,
        aggregator: Aggregator,
        callback: Callable[[Algorithm], pl.Callback],
        seed: int,
    ) -> "PreparedAudit":
        """Check everything that can be checked, before anything is trained.

        Args:
            template: of the task, with the run's first weights.
            data: of the run.
            aggregator: of the run; a ring's `bits` are taken over.
            callback: makes the Lightning callback that performs an algorithm's steps.
            seed: of the run.

        Raises:
            ConfigError: the task or its data are not what the audit can attack.
        """
        lr = sgd_rate(template)
        candidates = candidates_of(data, self.candidates, max(self.sites, *MEANS), seed)
        check_readable(template, candidates)
        attack = Attack(
            template,
            callback,
            lr,
            sites=self.sites,
            steps=self.local_steps,
            iterations=self.iterations,
            values=value_range(candidates.images),
            bits=aggregator.bits if isinstance(aggregator, CyclicCKKS) else 24,
        )
        return PreparedAudit(self, attack, candidates, seed)


@dataclass(frozen=True)
class PreparedAudit:
    """An audit that is ready to run.

    Attributes:
        settings: of the audit.
        attack: on one round.
        candidates: the images.
        seed: of the run.
    """

    settings: Audit
    attack: Attack
    candidates: Candidates
    seed: int

    def run(self, folder: Path, monitor: Monitor, round_: int) -> None:
        """Attack, and write audit.csv, audit.json and the pictures into the run's folder."""
        monitor.on_operation(round_=round_, operation="audit", sites=self.settings.trials)
        rows: list[TrialRow] = []
        shown: list[Mapping[str, Shown]] = []
        for number in range(self.settings.trials):
            found, pictures = self._trial(number)
            rows += found
            shown.append(pictures)
            seconds = sum(row.seconds for row in found)
            name = f"trial {number + 1}"
            monitor.on_site_done(site=name, operation="audit", seconds=seconds)
        write_csv(folder / AUDIT_CSV, TrialRow._fields, rows)
        if self.settings.pictures:
            pictures_of = _pictures(shown[: self.settings.pictures])
            write_bytes(folder / AUDIT_PICTURES, safetensors.torch.save(pictures_of))
        outcomes = self._distinguish()
        write_text(folder / AUDIT_JSON, json.dumps(self._record(rows, outcomes), indent=2) + "\n")

    def _trial(self, number: int) -> tuple[list[TrialRow], dict[str, Shown]]:
        seed = derive_seed(self.seed, "audit", number)
        count = len(self.candidates.images)
        chosen = np.random.default_rng(seed).permutation(count)[: self.attack.sites_needed]
        return self.attack.trial(number, self.candidates, chosen.tolist(), seed=seed)

    def _distinguish(self) -> list[Outcome]:
        game, trials = Game(derive_seed(self.seed, "distinguish")), self.settings.distinguishing
        return [game.play(view, trials) for view in game.observers()] if trials else []

    def _record(self, rows: list[TrialRow], outcomes: list[Outcome]) -> dict[str, Any]:
        """What audit.json holds."""
        count = len(self.candidates.images)
        common = int(self.candidates.labels.bincount().max()) / count
        facts = {"candidates": count, "common_label": common, "lr": self.attack.lr}
        by_view = [[row for row in rows if row.view == view] for view in VIEWS]
        return {
            "settings": vars(self.settings) | facts,
            "views": [_view_record(summarise(of_one, count)) for of_one in by_view if of_one],
            "distinguishing": [_outcome_record(outcome) for outcome in outcomes],
            "seconds": sum(row.seconds for row in rows),
        }


def _view_record(summary: Summary) -> dict[str, Any]:
    view = VIEWS[summary.view]
    return {
        "title": view.title,
        "sees": view.sees,
        "protected": view.protected,
        **asdict(summary),
        "words": WORDS[summary.verdict],
    }


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    return {
        **outcome._asdict(),
        "title": VIEWS[outcome.view].title,
        "accuracy": outcome.accuracy,
        "advantage": outcome.advantage,
        "interval": outcome.interval(),
        "words": _coin_words(outcome),
    }


def _coin_words(outcome: Outcome) -> str:
    if outcome.sees:
        return "Tells them apart."
    if outcome.is_a_coin:
        return "A coin."
    return "Beside a coin by less than chance can do; run again with another seed."


def _pictures(shown: list[Mapping[str, Shown]]) -> dict[str, Tensor]:
    """By view, the true images and the reconstructions of some trials, (trials, C, H, W)."""
    found: dict[str, Tensor] = {}
    for view in shown[0]:
        found[f"{view}/truth"] = torch.stack([pictures[view].truth for pictures in shown])
        found[f"{view}/found"] = torch.stack([pictures[view].found for pictures in shown]).float()
    return found
