"""What the numbers of an audit say, view by view, in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from lightning_fl.audit.membership.inference import Floats
from lightning_fl.audit.trials import TrialRow
from lightning_fl.audit.views.correlation import (
    is_beyond_chance,
    limit_of_chance,
    root_mean_square,
)

RECOGNISABLE = 20.0
"""Mean PSNR in dB from which an image counts as come back."""
CLEAR_GAIN = 3.0
"""Mean gain in dB over a blind guess that counts however few trials there are: half the error."""
BY_CHANCE = 0.01
"""What chance does more often than this is taken for chance; each sign of a leak by itself."""

Verdict = Literal["comes back", "shows something", "no better than guessing"]
WORDS: dict[Verdict, str] = {
    "comes back": "The image comes back.",
    "shows something": "Not the image, but more than a guess",
    "no better than guessing": "No better than guessing.",
}


@dataclass(frozen=True)
class Summary:
    """One view over all trials.

    Attributes:
        view: its name.
        seeds: of first weights.
        trials: how many, of all seeds together.
        images: attacked together in each.
        psnr: mean, in dB.
        psnr_sd: standard deviation of the seeds' means, of the trials where there is one seed; None
            of one value.
        ssim: mean.
        ssim_sd: standard deviation, as of the PSNR.
        identified: share of images that are nearest to their own reconstruction.
        luck: share that would be by luck.
        label_right: share of labels read right; None where the attacker was told them.
        correlation: of the guessed updates with the true ones, root mean square over trials.
        chance: the correlation above which it is no chance.
        guess_psnr: mean PSNR of the better of flat grey and random pixels.
        verdict: see `WORDS`.
        signs: of a leak, in words; see `signs`.
    """

    view: str
    seeds: int
    trials: int
    images: int
    psnr: float
    psnr_sd: float | None
    ssim: float
    ssim_sd: float | None
    identified: float
    luck: float
    label_right: float | None
    correlation: float
    chance: float
    guess_psnr: float
    verdict: Verdict
    signs: tuple[str, ...]

    @property
    def words(self) -> str:
        """The verdict for a reader."""
        words = WORDS[self.verdict]
        return f"{words}: {', '.join(self.signs)}." if self.verdict == "shows something" else words


def summarise(rows: Sequence[TrialRow], floor: Sequence[TrialRow], common_label: float) -> Summary:
    """Sum up the trials of one view.

    Args:
        rows: of one view.
        floor: of the view "noise" in the same trials.
        common_label: share of the candidates that have the more common label.
    """
    psnr, ssim = _independent(rows, lambda r: r.psnr), _independent(rows, lambda r: r.ssim)
    labels, related = [r.label_right for r in rows], [r.correlation for r in rows]
    return Summary(
        view=rows[0].view,
        seeds=len({r.seed for r in rows}),
        trials=len(rows),
        images=rows[0].images,
        psnr=float(psnr.mean()),
        psnr_sd=_sd(psnr),
        ssim=float(ssim.mean()),
        ssim_sd=_sd(ssim),
        identified=float(np.mean([r.identified for r in rows])),
        luck=float(np.mean([r.luck for r in rows])),
        label_right=None if any(map(math.isnan, labels)) else float(np.mean(labels)),
        correlation=root_mean_square(related),
        chance=limit_of_chance(len(rows), rows[0].length),
        guess_psnr=float(np.mean([r.guess_psnr for r in rows])),
        verdict=verdict(rows, floor, common_label),
        signs=signs(rows, floor, common_label),
    )


def verdict(rows: Sequence[TrialRow], floor: Sequence[TrialRow], common_label: float) -> Verdict:
    """Judge one view.

    An image has come back where the mean PSNR is 20 dB. A view is no better than guessing where
    nothing of `signs` is seen.

    Args:
        rows: of one view, one for each trial.
        floor: of the view "noise" in the same trials.
        common_label: share of the candidates that have the more common label.
    """
    if float(np.mean([r.psnr for r in rows])) >= RECOGNISABLE:
        return "comes back"
    return "shows something" if signs(rows, floor, common_label) else "no better than guessing"


def signs(
    rows: Sequence[TrialRow], floor: Sequence[TrialRow], common_label: float
) -> tuple[str, ...]:
    """In what a view is better than guessing, beyond chance.

    The first sign needs no attack: the guessed update is correlated with the true one. An attack
    may fail on an update that is mostly noise, and another one succeed. The others are about what
    this attack found: images nearer to the true ones than a blind guess, or than what the same
    attack makes of noise in the same trial; images identified, or labels read, more often than luck
    explains. Errors are over seeds where there are several, since trials with the same weights are
    alike; a gain over a blind guess also counts where there is one trial, or where it is 3 dB.

    Args:
        rows: of one view, one for each trial.
        floor: of the view "noise" in the same trials.
        common_label: share of the candidates that have the more common label.
    """
    gains = _independent(rows, lambda r: r.psnr - r.guess_psnr)
    alone = len(gains) == 1 and float(gains[0]) > 0
    found = {
        "the guessed update is correlated with the true one": is_beyond_chance(
            [r.correlation for r in rows], rows[0].length
        ),
        "nearer than a blind guess": alone or gains.mean() >= CLEAR_GAIN or _is_gain(gains),
        "nearer than what noise gives": _gains_on(floor, rows, lambda r: r.psnr),
        "more alike than what noise gives": _gains_on(floor, rows, lambda r: r.ssim),
        "identified by more than luck": _found_by_more_than_luck(rows),
        "labels read": _labels_read(rows, common_label),
    }
    return tuple(name for name, is_seen in found.items() if is_seen)


def _is_gain(gains: Floats) -> bool:
    """Whether the mean is above 0 by Student's one-sided t-test."""
    n = len(gains)
    if n < 2:
        return False
    error = float(gains.std(ddof=1)) / math.sqrt(n)
    return float(gains.mean()) > float(student.isf(BY_CHANCE, n - 1)) * error


def _gains_on(
    floor: Sequence[TrialRow], rows: Sequence[TrialRow], value: Callable[[TrialRow], float]
) -> bool:
    """Whether a value is above that of noise, trial by trial; batches have no such floor."""
    of_noise = {(row.seed, row.trial): value(row) for row in floor if row.images == rows[0].images}
    pairs = [row for row in rows if (row.seed, row.trial) in of_noise]
    if not pairs:
        return False
    return _is_gain(_independent(pairs, lambda r: value(r) - of_noise[r.seed, r.trial]))


def _found_by_more_than_luck(rows: Sequence[TrialRow]) -> bool:
    # The images of one trial share one attack, so a trial counts as one attempt.
    luck = float(np.mean([r.luck for r in rows]))
    return _more_often(sum(r.identified for r in rows), len(rows), luck)


def _labels_read(rows: Sequence[TrialRow], common_label: float) -> bool:
    """Whether labels are right more often than by always naming the more common one."""
    read = [r.label_right for r in rows if not math.isnan(r.label_right)]
    return bool(read) and _more_often(sum(read), len(read), common_label)


def _more_often(found: float, attempts: int, luck: float) -> bool:
    test = binomtest(round(found), attempts, luck, alternative="greater")
    return float(test.pvalue) < BY_CHANCE


def _independent(rows: Sequence[TrialRow], value: Callable[[TrialRow], float]) -> Floats:
    """A value's mean for each seed, or its values in all trials where there is but one seed."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(value(row))
    means = [float(np.mean(found)) for found in by_seed.values()]
    return np.array(means if len(means) > 1 else [value(row) for row in rows])


def _sd(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
