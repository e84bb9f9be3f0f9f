"""Compute means and paired differences over seeds, with their confidence intervals."""

from dataclasses import dataclass

import pandas as pd
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


def student_interval(values: pd.Series, level: float = 0.95) -> Interval:
    """Return the mean and the interval of Student's t with n - 1 degrees of freedom.

    Args:
        values: independent and roughly normal, e.g. one difference for each seed; NaN is left out.
        level: chance that such an interval holds the true mean.
    """
    n = int(values.count())
    mean = float(values.mean())
    half = float(student.ppf((1 + level) / 2, n - 1) * values.sem())
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(values: pd.Series, reference: pd.Series, level: float = 0.95) -> Interval:
    """Return values minus reference, seed by seed; a seed that one of them lacks is left out."""
    return student_interval(values - reference, level)
