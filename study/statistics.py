"""Means, spreads and paired differences over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: of the values; NaN where there are none.
        low: lower end; NaN with fewer than two values.
        high: upper end; NaN with fewer than two values.
        n: number of values.
    """

    mean: float
    low: float
    high: float
    n: int


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of no values."""
    return fmean(values) if values else math.nan


def sd(values: Sequence[float]) -> float:
    """The standard deviation with n - 1 below; NaN of fewer than two values."""
    return stdev(values) if len(values) > 1 else math.nan


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and interval of Student's t with n - 1 degrees of freedom.

    Args:
        values: independent and roughly normal, e.g. one difference for each seed.
        level: chance that such an interval holds the true mean.
    """
    n = len(values)
    centre = mean(values)
    if n < 2:
        return Interval(centre, math.nan, math.nan, n)
    half = float(student.ppf((1 + level) / 2, n - 1)) * sd(values) / math.sqrt(n)
    return Interval(centre, centre - half, centre + half, n)


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], level: float = 0.95
) -> Interval:
    """Values minus reference, seed by seed; a seed that one of them lacks, or NaN, is left out."""
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    return student_interval([d for d in differences if math.isfinite(d)], level)
