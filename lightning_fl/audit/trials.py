"""One trial of an audit: a round with some images, each view's guess, attack and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import FedAvg
from lightning_fl.audit.attacks.dlg import dlg
from lightning_fl.audit.attacks.floor import flat_guess, random_guess
from lightning_fl.audit.attacks.gradients import TaskGradient, mean_gradient
from lightning_fl.audit.attacks.idlg import read_label
from lightning_fl.audit.attacks.image_scores import (
    best_order,
    identifiability,
    image_scores,
    luck,
    ranks,
)
from lightning_fl.audit.attacks.local_steps import LocalSteps, Simulation
from lightning_fl.audit.attacks.matching import Matching
from lightning_fl.audit.attacks.targets import Known
from lightning_fl.audit.views.correlation import correlation
from lightning_fl.audit.views.guesses import MEANS, Evidence, Guess, guesses
from lightning_fl.audit.views.recording import OpenRing
from lightning_fl.audit.views.stage import Stage
from lightning_fl.errors import ConfigError
from lightning_fl.training.layout import from_vector


class TrialRow(NamedTuple):
    """One attack; a row of audit.csv.

    Attributes:
        view: its name in `VIEWS`.
        seed: of the first weights.
        trial: number of the trial, from 0 for each seed.
        images: how many were to be found; the scores are their means.
        psnr: of the reconstruction, in dB.
        ssim: of the reconstruction.
        identified: share of the images that are nearest, of all candidates, to their own
            reconstruction.
        luck: the share that would be identified by luck alone.
        label_right: 1 or 0 for a label read from the gradient; NaN where the attacker was told.
        correlation: of the guessed update with the true one.
        length: values of an update; chance alone gives a correlation of about 1 / sqrt(length).
        guess_psnr: what the better of flat grey and random pixels scores on the same images.
        objective: the attacker's own measure of success.
        seconds: of the attack.
    """

    view: str
    seed: int
    trial: int
    images: int
    psnr: float
    ssim: float
    identified: float
    luck: float
    label_right: float
    correlation: float
    length: int
    guess_psnr: float
    objective: float
    seconds: float


class Shown(NamedTuple):
    """A picture of the report: the true image of the attacked site and what came of it."""

    truth: Tensor
    found: Tensor


@dataclass(frozen=True)
class Candidates:
    """The images that trials draw from; also those that identification chooses among.

    Attributes:
        images: (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def samples(self, chosen: Sequence[int]) -> list[dict[str, Tensor]]:
        """Samples as a data set gives them."""
        return [{"image": self.images[i], "label": self.labels[i]} for i in chosen]


class Aim(NamedTuple):
    """What one attack starts from, and what it is to be judged by.

    Attributes:
        view: its name in `VIEWS`.
        trial: number of the trial.
        guess: the view's, of an update.
        truth: the true update, shape (length,).
        numbers: of the true images among the candidates, one for each site of the guess.
        seed: of the attack's start.
    """

    view: str
    trial: int
    guess: Guess
    truth: Tensor
    numbers: list[int]
    seed: int


@dataclass(frozen=True)
class Attack:
    """What stays the same over all trials.

    Attributes:
        template: of the task, at the weights that are attacked.
        weights_seed: that these weights were drawn with.
        lr: of the task's SGD.
        sites: of the ring that is looked into.
        steps: of the view "plain_steps".
        iterations: of L-BFGS.
        values: smallest and largest value of a pixel.
        bits: of the ring.
    """

    template: pl.LightningModule
    weights_seed: int
    lr: float
    sites: int
    steps: int
    iterations: int
    values: tuple[float, float] = (0.0, 1.0)
    bits: int = 24

    def trial(
        self, number: int, candidates: Candidates, chosen: Sequence[int], *, seed: int
    ) -> tuple[list[TrialRow], dict[str, Shown]]:
        """Run one round with the chosen images, one for each site, and attack every view.

        Args:
            number: of the trial.
            candidates: all images.
            chosen: numbers of the images of the sites, at least `sites_needed`.
            seed: of the attacks' starts.
        """
        with TemporaryDirectory() as folder:
            evidence = self.evidence(candidates.samples(chosen), Path(folder), seed=seed)
        rows, pictures = [], {}
        gradient = TaskGradient(self.template)
        for name, guess in guesses(evidence, seed=seed).items():
            numbers = [chosen[int(site[1:]) - 1] for site in guess.sites]
            aim = Aim(name, number, guess, evidence.truth(guess), numbers, seed)
            row, pictures[name] = self.attacked(aim, gradient, candidates)
            rows.append(row)
        return rows, pictures

    @property
    def sites_needed(self) -> int:
        """Sites of a trial: those of the ring, and of the largest mean."""
        return max(self.sites, *MEANS)

    def evidence(
        self, samples: Sequence[dict[str, Tensor]], folder: Path, *, seed: int
    ) -> Evidence:
        """Train, and record what is said in the clear and in each ring.

        Args:
            samples: of each site, at least `sites_needed`.
            folder: for the sites; to be deleted by the caller.
            seed: of the sites' training.
        """
        stage = Stage(self.template, samples, folder / "one", seed=seed)
        stage.train()
        ring = stage.names[: self.sites]
        several = Stage(
            self.template,
            samples[: self.sites],
            folder / "several",
            steps=self.steps,
            seed=seed,
        )
        several.train()
        return Evidence(
            clear=stage.record(Plain(weights="equal")),
            several_steps=several.record(Plain(weights="equal")),
            steps=self.steps,
            rings={
                "none": stage.record(OpenRing(bits=self.bits, masking="none"), ring),
                "initiator": stage.record(OpenRing(bits=self.bits, masking="initiator"), ring),
                "pairwise": stage.record(OpenRing(bits=self.bits), ring),
            },
            means={n: stage.record(OpenRing(bits=self.bits), stage.names[:n]) for n in MEANS},
        )

    def attacked(
        self, aim: Aim, gradient: TaskGradient, candidates: Candidates
    ) -> tuple[TrialRow, Shown]:
        """Look for the images of one view, and score what is found.

        Args:
            aim: the view's guess.
            gradient: of the task, at the weights that are attacked.
            candidates: all images.
        """
        truth, labels = candidates.images[aim.numbers], candidates.labels[aim.numbers]
        seen = self.seen_gradient(aim.guess)
        label = labels if len(truth) > 1 else label_guess(gradient.module, seen)
        problem = Matching(
            self._simulation(gradient, aim.guess.steps),
            seen,
            _four((len(truth), *truth.shape[1:])),
            Known("label", label),
            self.values,
        )
        found = dlg(problem, iterations=self.iterations, restarts=1, seed=aim.seed)
        images = found.images[best_order(found.images, truth)]
        scores = image_scores(images, truth, values=self.values)
        row = TrialRow(
            view=aim.view,
            seed=self.weights_seed,
            trial=aim.trial,
            images=len(truth),
            psnr=scores.psnr,
            ssim=scores.ssim,
            identified=identifiability(ranks(images, aim.numbers, candidates.images)),
            luck=luck(images, candidates.images, seed=aim.seed),
            label_right=float(torch.equal(label, labels)) if len(truth) == 1 else float("nan"),
            correlation=correlation(aim.guess.update, aim.truth),
            length=len(aim.truth),
            guess_psnr=self._guess_psnr(truth, aim.seed),
            objective=found.objective,
            seconds=found.seconds,
        )
        return row, Shown(truth[0], images[0])

    def _simulation(self, gradient: TaskGradient, steps: int) -> Simulation:
        return LocalSteps(gradient, lr=self.lr, steps=steps) if steps > 1 else gradient

    def seen_gradient(self, guess: Guess) -> dict[str, Tensor]:
        """What a guessed update says about the gradient of the sites' images."""
        state = from_vector(guess.update, FedAvg().layout(self.template))
        return mean_gradient(state, lr=self.lr, steps=guess.steps)

    def _guess_psnr(self, truth: Tensor, seed: int) -> float:
        blind = (
            flat_guess(tuple(truth.shape), values=self.values),
            random_guess(tuple(truth.shape), seed=seed, values=self.values),
        )
        return max(image_scores(guess, truth, values=self.values).psnr for guess in blind)


def label_guess(module: pl.LightningModule, seen: dict[str, Tensor]) -> Tensor:
    """The label that a gradient shows; class 0 where noise shows none."""
    try:
        return read_label(module, seen)
    except ConfigError:  # an audit refuses nets that never show it, before its first trial
        return torch.zeros(1, dtype=torch.int64)


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, channels, height, width = shape
    return batch, channels, height, width
