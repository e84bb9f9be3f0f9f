"""Membership inference: can a model's losses tell whom it was trained on?

Pure functions on losses. Attacks give a score to each candidate, higher for "was a member"; scores
of members and of non-members then say how good the attack is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from lightning_fl.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Interval = tuple[float, float]

FALSE_POSITIVE_RATES = (0.01, 0.1)


@dataclass(frozen=True)
class Inference:
    """How well an attack tells members from non-members.

    Attributes:
        values: by name: "auc", the chance that a member has a higher score than a non-member;
            "advantage", the largest difference of the rates of true and of false positives;
            "tpr@0.01" and "tpr@0.1", the share of members found where that share of non-members is
            taken for members.
        intervals: 95 % intervals of these values, by bootstrap.
        members: how many members there were.
        non_members: how many non-members there were.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    members: int
    non_members: int

    @property
    def detected(self) -> bool:
        """Whether the attack is better than a coin: 0.5 lies below the AUC's interval."""
        return self.intervals["auc"][0] > 0.5


def loss_threshold_scores(losses: ArrayLike) -> Floats:
    """Score by Yeom et al. (2018, arXiv 1709.01604): a patient with a low loss was a member."""
    return -np.asarray(losses, dtype=np.float64)


def ranks_within(scores: ArrayLike, groups: Sequence[str]) -> Floats:
    """Rank scores inside each group, as shares from 0 to 1; ties have their mean rank.

    For groups that are hospitals: one whose patients all have lower losses would otherwise be taken
    for one with more members.
    """
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    ranks = np.empty_like(values)
    for name in dict.fromkeys(groups):
        chosen = names == name
        ranks[chosen] = (rankdata(values[chosen]) - 0.5) / chosen.sum()
    return ranks


def auc(members: ArrayLike, non_members: ArrayLike) -> float:
    """Return the area under the ROC curve of scores, ties counting half; 0.5 is a coin.

    Raises:
        DataError: there are no members, no non-members, or a score is NaN.
    """
    inside, outside = _checked(members, non_members)
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left")
    up_to = np.searchsorted(ordered, inside, "right")
    return float((below + up_to).sum() / (2 * len(inside) * len(outside)))


def tpr_at_fpr(members: ArrayLike, non_members: ArrayLike, rate: float) -> float:
    """Return the largest true-positive rate of a threshold with this false-positive rate at most.

    With fewer than 1 / rate non-members the threshold lies above all of them.

    Raises:
        ConfigError: the rate is not in [0, 1].
        DataError: as `auc`.
    """
    if not 0 <= rate <= 1:
        raise ConfigError(f"Expected a false-positive rate between 0 and 1, but got {rate}.")
    inside, outside = _checked(members, non_members)
    allowed = int(np.floor(rate * len(outside) + 1e-9))
    if allowed == len(outside):
        return 1.0
    threshold = np.sort(outside)[::-1][allowed]
    return float(np.mean(inside > threshold))


def advantage(members: ArrayLike, non_members: ArrayLike) -> float:
    """Return the largest difference of true- and false-positive rate, over all thresholds."""
    inside, outside = _checked(members, non_members)
    thresholds = np.concatenate([inside, outside])
    true = 1 - np.searchsorted(np.sort(inside), thresholds, "left") / len(inside)
    false = 1 - np.searchsorted(np.sort(outside), thresholds, "left") / len(outside)
    return float(max((true - false).max(), 0.0))


def measures(members: ArrayLike, non_members: ArrayLike) -> dict[str, float]:
    """Return the values of an `Inference`."""
    return {
        "auc": auc(members, non_members),
        "advantage": advantage(members, non_members),
        **{f"tpr@{r:g}": tpr_at_fpr(members, non_members, r) for r in FALSE_POSITIVE_RATES},
    }


def inference(
    members: ArrayLike, non_members: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Inference:
    """Take the measures, and as their intervals percentiles over resampled scores.

    Non-members have to come from the distribution of the members. Slices of one patient are not
    independent, and neither are their scores: give patients' scores where there are patients.

    Raises:
        ConfigError: `resamples` is below 1.
        DataError: as `auc`.
    """
    if resamples < 1:
        raise ConfigError(f"Expected `resamples` to be at least 1, but got {resamples}.")
    inside, outside = _checked(members, non_members)
    generator = np.random.default_rng(seed)
    drawn = [
        measures(generator.choice(inside, len(inside)), generator.choice(outside, len(outside)))
        for _ in range(resamples)
    ]
    values, intervals = measures(inside, outside), {}
    for name in values:
        low, high = np.percentile([resample[name] for resample in drawn], [2.5, 97.5])
        intervals[name] = (float(low), float(high))
    return Inference(values, intervals, len(inside), len(outside))


def _checked(members: ArrayLike, non_members: ArrayLike) -> tuple[Floats, Floats]:
    inside = np.asarray(members, dtype=np.float64)
    outside = np.asarray(non_members, dtype=np.float64)
    for name, scores in (("members", inside), ("non-members", outside)):
        if scores.ndim != 1 or not scores.size or bool(np.isnan(scores).any()):
            raise DataError(
                f"Expected a list of scores of {name} without NaN, but got shape {scores.shape} "
                f"with {int(np.isnan(scores).sum())} NaN. Attack a model that was trained, with "
                "samples of both kinds."
            )
    return inside, outside
