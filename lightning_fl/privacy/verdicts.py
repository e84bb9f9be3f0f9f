"""What the numbers of an audit say, view by view, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

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
        trials: how many.
        images: attacked together in each.
        psnr: mean, in dB.
        psnr_sd: standard deviation over trials; 0 for one.
        ssim: mean.
        ssim_sd: standard deviation over trials.
        identified: share of images that are nearest to their own reconstruction.
        label_right: share of labels read right; None where the attacker was told them.
        guess_psnr: mean PSNR of the better of flat grey and random pixels.
        verdict: see `WORDS`.
    """

    view: str
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
    psnr, ssim = np.array([r.psnr for r in rows]), np.array([r.ssim for r in rows])
    labels = [r.label_right for r in rows]
    return Summary(
        view=rows[0].view,
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
    errors, and where images are not identified more often than luck explains. One trial has no
    standard error, so any gain counts there.

    Args:
        rows: of one view, one for each trial.
        candidates: images that identification chooses among.
    """
    if float(np.mean([r.psnr for r in rows])) >= RECOGNISABLE:
        return "comes back"
    gains = np.array([r.psnr - r.guess_psnr for r in rows])
    beyond_noise = float(gains.mean()) > 2 * _sd(gains) / math.sqrt(len(gains))
    if beyond_noise or _found_by_more_than_luck(rows, candidates):
        return "shows something"
    return "no better than guessing"


def _found_by_more_than_luck(rows: Sequence[TrialRow], candidates: int) -> bool:
    # The images of one trial share one attack, so a trial counts as one attempt.
    found = round(sum(r.identified for r in rows))
    test = binomtest(found, len(rows), 1 / candidates, alternative="greater")
    return float(test.pvalue) < BY_CHANCE


def _sd(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
