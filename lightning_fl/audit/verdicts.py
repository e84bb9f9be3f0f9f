"""Judge what the trials of an audit say, view by view."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from lightning_fl.audit.membership.inference import Floats
from lightning_fl.audit.trials import TrialRow
from lightning_fl.audit.views.correlation import is_beyond_chance, limit_of_chance, root_mean_square
from lightning_fl.audit.views.guesses import VIEWS

RECOGNISABLE = 20.0
"""Mean PSNR in dB from which an image counts as come back."""
CLEAR_GAIN = 3.0
"""Mean gain in dB over a blind guess that counts however few trials there are: half the error."""
BY_CHANCE = 0.01
"""A sign of a leak counts where chance alone gives it less often than this."""
NOTHING = "no better than guessing"


@dataclass(frozen=True)
class ViewTrials:
    """All trials of one view, and what they are judged by.

    Attributes:
        rows: one for each trial.
        floor: of the view "noise" in the same trials.
        common_label: share of the candidates that have the more common label.
    """

    rows: Sequence[TrialRow]
    floor: Sequence[TrialRow]
    common_label: float

    @property
    def verdict(self) -> str:
        """Whether the image comes back, or the view shows something, or is no better than a guess.

        An image has come back where the mean PSNR is 20 dB. A view is no better than guessing where
        there are no `signs`.
        """
        if self._mean(lambda r: r.psnr) >= RECOGNISABLE:
            return "comes back"
        return "shows something" if self.signs else NOTHING

    @property
    def words(self) -> str:
        """The verdict for a reader."""
        if self.verdict == "comes back":
            return "The image comes back."
        if self.signs:
            return f"Not the image, but more than a guess: {', '.join(self.signs)}."
        return "No better than guessing."

    @cached_property
    def signs(self) -> tuple[str, ...]:
        """In what the view is better than guessing, beyond chance.

        The first sign needs no attack: the guessed update is correlated with the true one. This
        attack may fail on an update that is mostly noise where another one succeeds. The other
        signs are about what this attack made of the view. Its images are nearer to the true ones
        than a blind guess, or than what the same attack makes of noise in the same trial. It
        identifies images, or reads labels, more often than luck explains. Errors are over seeds
        where there are several, since trials with the same weights are alike. A gain over a blind
        guess also counts where there is one trial, or where it is 3 dB.
        """
        gains = _independent(self.rows, lambda r: r.psnr - r.guess_psnr)
        alone = len(gains) == 1 and float(gains[0]) > 0
        seen = {
            "the guessed update is correlated with the true one": is_beyond_chance(
                [r.correlation for r in self.rows], self.rows[0].length
            ),
            "nearer than a blind guess": alone or gains.mean() >= CLEAR_GAIN or _is_gain(gains),
            "nearer than what noise gives": self._gains_on_noise(lambda r: r.psnr),
            "more alike than what noise gives": self._gains_on_noise(lambda r: r.ssim),
            # The images of one trial share one attack, so a trial counts as one attempt.
            "identified by more than luck": _more_often(
                [r.identified for r in self.rows], self._mean(lambda r: r.luck)
            ),
            "labels read": _more_often(
                [r.label_right for r in self.rows if not math.isnan(r.label_right)],
                self.common_label,
            ),
        }
        return tuple(sign for sign, is_seen in seen.items() if is_seen)

    def record(self) -> dict[str, Any]:
        """Return what audit.json says of the view.

        Scores are means over all trials. `psnr_sd` and `ssim_sd` are standard deviations of the
        seeds' means, or of the trials where there is one seed, and None of one value. `label_right`
        is None where the attacker was told the labels. `correlation` is the root mean square over
        trials, and chance alone does not reach `chance`.
        """
        rows, view = self.rows, VIEWS[self.rows[0].view]
        psnr, ssim = _independent(rows, lambda r: r.psnr), _independent(rows, lambda r: r.ssim)
        label_right = self._mean(lambda r: r.label_right)
        return {
            "title": view.title,
            "sees": view.sees,
            "protected": view.protected,
            "view": view.name,
            "seeds": len({r.seed for r in rows}),
            "trials": len(rows),
            "images": rows[0].images,
            "psnr": float(psnr.mean()),
            "psnr_sd": _sd(psnr),
            "ssim": float(ssim.mean()),
            "ssim_sd": _sd(ssim),
            "identified": self._mean(lambda r: r.identified),
            "luck": self._mean(lambda r: r.luck),
            "label_right": None if math.isnan(label_right) else label_right,
            "correlation": root_mean_square([r.correlation for r in rows]),
            "chance": limit_of_chance(len(rows), rows[0].length),
            "guess_psnr": self._mean(lambda r: r.guess_psnr),
            "verdict": self.verdict,
            "signs": self.signs,
            "words": self.words,
        }

    def _mean(self, value: Callable[[TrialRow], float]) -> float:
        return float(np.mean([value(row) for row in self.rows]))

    def _gains_on_noise(self, value: Callable[[TrialRow], float]) -> bool:
        """Tell whether a value is above that of noise, trial by trial.

        Noise is attacked as a single image, so views of several have no such floor.
        """
        images = self.rows[0].images
        of_noise = {(r.seed, r.trial): value(r) for r in self.floor if r.images == images}
        pairs = [row for row in self.rows if (row.seed, row.trial) in of_noise]
        gains = _independent(pairs, lambda r: value(r) - of_noise[r.seed, r.trial])
        return _is_gain(gains)


def by_view(rows: Sequence[TrialRow], common_label: float) -> list[ViewTrials]:
    """Sort the rows of all trials by view, in the order of the report."""
    sorted_rows = {view: [row for row in rows if row.view == view] for view in VIEWS}
    floor = sorted_rows["noise"]
    return [ViewTrials(trials, floor, common_label) for trials in sorted_rows.values() if trials]


def _is_gain(gains: Floats) -> bool:
    """Tell whether the mean is above 0, by Student's one-sided t-test."""
    n = len(gains)
    if n < 2:
        return False
    error = float(gains.std(ddof=1)) / math.sqrt(n)
    return float(gains.mean()) > float(student.isf(BY_CHANCE, n - 1)) * error


def _more_often(hits: Sequence[float], luck: float) -> bool:
    """Tell whether there are more hits, each 0 to 1, than luck explains."""
    if not hits:
        return False
    test = binomtest(round(sum(hits)), len(hits), luck, alternative="greater")
    return float(test.pvalue) < BY_CHANCE


def _independent(rows: Sequence[TrialRow], value: Callable[[TrialRow], float]) -> Floats:
    """Return a value's mean for each seed, or its values in all trials of the only seed."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(value(row))
    means = [float(np.mean(values)) for values in by_seed.values()]
    return np.array(means if len(means) > 1 else [value(row) for row in rows])


def _sd(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
