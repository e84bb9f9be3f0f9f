"""One trial of an audit: a round with some images, each view's guess, attack and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_fl.aggregation import Plain
from lightning_fl.aggregation.ring.ring_settings import Masking
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
)
from lightning_fl.audit.attacks.local_steps import LocalSteps
from lightning_fl.audit.attacks.matching import Matching, Reconstruction
from lightning_fl.audit.attacks.targets import Known
from lightning_fl.audit.audit_settings import Audit
from lightning_fl.audit.trial_images import TrialImages
from lightning_fl.audit.views.correlation import correlation
from lightning_fl.audit.views.guesses import MEANS, Evidence, Guess, guesses
from lightning_fl.audit.views.recording import OpenRing, Recording
from lightning_fl.audit.views.trial_federation import Samples, TrialFederation
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


class PicturePair(NamedTuple):
    """A picture of the report: the true image of the attacked site and what came of it."""

    truth: Tensor
    reconstruction: Tensor


Pictures = Mapping[str, PicturePair]
"""Of one trial, by view."""


@dataclass(frozen=True)
class TrialAttack:
    """Plays rounds with single images, from some first weights, and attacks every view of them.

    Attributes:
        template: of the task, at the weights that are attacked.
        weights_seed: that these weights were drawn with.
        lr: of the task's SGD.
        settings: of the audit.
        images: that trials draw from.
        bits: of the ring.
    """

    template: pl.LightningModule
    weights_seed: int
    lr: float
    settings: Audit
    images: TrialImages
    bits: int

    @cached_property
    def gradient(self) -> TaskGradient:
        """The gradient of the task at the weights that are attacked."""
        return TaskGradient(self.template)

    @property
    def sites_needed(self) -> int:
        """Sites of a trial: those of the ring, and of the largest mean."""
        return max(self.settings.sites, *MEANS)

    def trial(
        self, number: int, chosen: Sequence[int], *, seed: int
    ) -> tuple[list[TrialRow], Pictures]:
        """Run one round with the chosen images, one for each site, and attack every view.

        Args:
            number: of the trial.
            chosen: numbers of the images of the sites, at least `sites_needed`.
            seed: of the sites' training and of the attacks' starts.
        """
        sites = {f"S{place}": number for place, number in enumerate(chosen, start=1)}
        with TemporaryDirectory() as folder:
            samples = {site: self.images.sample(number) for site, number in sites.items()}
            evidence = self.evidence(samples, Path(folder), seed=seed)
        rows, pictures = [], {}
        for view, guess in guesses(evidence, seed=seed).items():
            numbers = [sites[site] for site in guess.sites]
            update = evidence.truth(guess)
            row, pictures[view] = self.attacked(view, number, guess, update, numbers, seed=seed)
            rows.append(row)
        return rows, pictures

    def evidence(self, samples: Samples, folder: Path, *, seed: int) -> Evidence:
        """Train sites with these samples, and record what is said in the clear and in each ring.

        The folder is for the sites, to be deleted by the caller.
        """
        ring, steps = self.settings.sites, self.settings.local_steps
        federation = TrialFederation(self.template, samples, folder / "one", 1, seed)
        federation.train()
        in_ring = dict(islice(samples.items(), ring))
        several = TrialFederation(self.template, in_ring, folder / "several", steps, seed)
        several.train()

        def recorded(masking: Masking, count: int) -> Recording:
            ring = OpenRing(bits=self.bits, masking=masking)
            return federation.record(ring, tuple(samples)[:count])

        return Evidence(
            clear=federation.record(Plain(weights="equal")),
            several_steps=several.record(Plain(weights="equal")),
            steps=steps,
            rings={kind: recorded(kind, ring) for kind in ("none", "initiator", "pairwise")},
            means={n: recorded("pairwise", n) for n in MEANS},
        )

    def attacked(
        self, view: str, trial: int, guess: Guess, update: Tensor, numbers: list[int], *, seed: int
    ) -> tuple[TrialRow, PicturePair]:
        """Look for the images of one view, and score what comes back.

        Args:
            view: its name in `VIEWS`.
            trial: number of the trial.
            guess: the view's, of an update.
            update: the true one, shape (length,).
            numbers: of the true images, one for each site of the guess.
            seed: of the attack's start.
        """
        truth, labels = self.images.images[numbers], self.images.labels[numbers]
        result = self._reconstruct(guess, truth.shape, labels, seed)
        images = result.images[best_order(result.images, truth)]
        scores = image_scores(images, truth, values=self.images.values)
        alone = len(truth) == 1
        row = TrialRow(
            view=view,
            seed=self.weights_seed,
            trial=trial,
            images=len(truth),
            psnr=scores.psnr,
            ssim=scores.ssim,
            identified=identifiability(images, numbers, self.images.images),
            luck=luck(images, self.images.images, seed=seed),
            label_right=float(torch.equal(result.target, labels)) if alone else float("nan"),
            correlation=correlation(guess.update, update),
            length=len(update),
            guess_psnr=self._guess_psnr(truth, seed),
            objective=result.objective,
            seconds=result.seconds,
        )
        return row, PicturePair(truth[0], images[0])

    def _reconstruct(
        self, guess: Guess, shape: tuple[int, ...], labels: Tensor, seed: int
    ) -> Reconstruction:
        """Match the gradient that a guess shows; of several images the attacker has the labels."""
        seen = self.seen_gradient(guess)
        label = labels if len(labels) > 1 else label_guess(self.gradient.module, seen)
        steps = guess.steps
        simulate = LocalSteps(self.gradient, self.lr, steps) if steps > 1 else self.gradient
        problem = Matching(simulate, seen, shape, Known("label", label), self.images.values)
        return dlg(problem, iterations=self.settings.iterations, restarts=1, seed=seed)

    def seen_gradient(self, guess: Guess) -> dict[str, Tensor]:
        """Return what a guessed update says about the gradient of the sites' images."""
        state = from_vector(guess.update, FedAvg().layout(self.template))
        return mean_gradient(state, lr=self.lr, steps=guess.steps)

    def _guess_psnr(self, truth: Tensor, seed: int) -> float:
        shape, values = truth.shape, self.images.values
        blind = (flat_guess(shape, values=values), random_guess(shape, seed=seed, values=values))
        return max(image_scores(images, truth, values=values).psnr for images in blind)


def label_guess(module: pl.LightningModule, seen: dict[str, Tensor]) -> Tensor:
    """Return the label that a gradient shows; class 0 where noise shows none."""
    try:
        return read_label(module, seen)
    except ConfigError:  # an audit refuses nets that never show it, before its first trial
        return torch.zeros(1, dtype=torch.int64)
