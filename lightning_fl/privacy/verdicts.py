"""What the numbers of an audit say, view by view, in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from lightning_fl.privacy.membership import Floats
from lightning_fl.privacy.trials import TrialRow

RECOGNISABLE = 20.0
"""Mean PSNR in dB from which an image counts as come back."""
BY_CHANCE = 0.01
"""Images found more often than this probability explains are found by more than luck."""

Verdict = Literal["comes back", "shows something", "no better than guessing"]
WORDS: dict[Verdict, str] = {
    "comes back": "The image comes back.",
    "shows something": "Not the image, but more than a guess.",
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
        psnr_sd: standard deviation of the seeds' means; of the trials where there is one seed.
        ssim: mean.
        ssim_sd: standard deviation, as of the PSNR.
        identified: share of images that are nearest to their own reconstruction.
        label_right: share of labels read right; None where the attacker was told them.
        guess_psnr: mean PSNR of the better of flat grey and random pixels.
        verdict: see `WORDS`.
    """

    view: str
    seeds: int
    trials: int
    images: int
    psnr: float
    psnr_sd: float
    ssim: float
    ssim_sd: float
    identified: float
    label_right: float | None
    guess_psnr: float
    verdict: Verdict


def summarise(rows: Sequence[TrialRow], candidates: int) -> Summary:
    """Sum up the trials of one view.

    Args:
        rows: of one view.
        candidates: images that identification chooses among.
    """
    psnr, ssim = _independent(rows, lambda r: r.psnr), _independent(rows, lambda r: r.ssim)
    labels = [r.label_right for r in rows]
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
        label_right=None if any(map(math.isnan, labels)) else float(np.mean(labels)),
        guess_psnr=float(np.mean([r.guess_psnr for r in rows])),
        verdict=verdict(rows, candidates),
    )


def verdict(rows: Sequence[TrialRow], candidates: int) -> Verdict:
    """Judge one view.

    An image has come back where the mean PSNR is 20 dB. A view is no better than guessing where
    its PSNR is not above that of a blind guess of the same images by more than two standard
    errors, and where images are not identified more often than luck explains. The errors are over
    seeds where there are several, since trials with the same weights are alike; one trial alone has
    none, so any gain counts there.

    Args:
        rows: of one view, one for each trial.
        candidates: images that identification chooses among.
    """
    if float(np.mean([r.psnr for r in rows])) >= RECOGNISABLE:
        return "comes back"
    gains = _independent(rows, lambda r: r.psnr - r.guess_psnr)
    beyond_noise = float(gains.mean()) > 2 * _sd(gains) / math.sqrt(len(gains))
    if beyond_noise or _found_by_more_than_luck(rows, candidates):
        return "shows something"
    return "no better than guessing"


def _found_by_more_than_luck(rows: Sequence[TrialRow], candidates: int) -> bool:
    # The images of one trial share one attack, so a trial counts as one attempt.
    found = round(sum(r.identified for r in rows))
    test = binomtest(found, len(rows), 1 / candidates, alternative="greater")
    return float(test.pvalue) < BY_CHANCE


def _independent(rows: Sequence[TrialRow], value: Callable[[TrialRow], float]) -> Floats:
    """A value's mean for each seed, or its values in all trials where there is but one seed."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(value(row))
    means = [float(np.mean(found)) for found in by_seed.values()]
    return np.array(means if len(means) > 1 else [value(row) for row in rows])


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
