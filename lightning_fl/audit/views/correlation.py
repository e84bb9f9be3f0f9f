"""Measure what guesses of updates have of the true ones, whatever an attack makes of them."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2
from torch import Tensor

FOUR_DEVIATIONS = 6.334e-5
"""How often a normal variable is further than four standard deviations from its mean."""


def correlation(guess: Tensor, truth: Tensor) -> float:
    """Return Pearson's correlation of two updates, shape (length,); 0 where one is constant."""
    first, second = (values.double() - values.double().mean() for values in (guess, truth))
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size > 0 else 0.0


def is_beyond_chance(correlations: Sequence[float], length: int) -> bool:
    """Tell whether independent guesses are correlated with the truth by more than chance.

    A guess that knows nothing has a correlation of 0 with standard deviation `1 / sqrt(length)`.
    The sum of n such squares, times `length`, is chi-squared with n degrees of freedom. One guess
    alone is beyond chance from `4 / sqrt(length)`, several from less, whatever their signs.
    """
    squares = length * float(np.square(correlations).sum())
    return bool(chi2.sf(squares, len(correlations)) < FOUR_DEVIATIONS)


def limit_of_chance(trials: int, length: int) -> float:
    """Return the root mean square of correlations above which they are beyond chance."""
    return float(np.sqrt(chi2.isf(FOUR_DEVIATIONS, trials) / (trials * length)))


def root_mean_square(correlations: Sequence[float]) -> float:
    """Return the size of correlations, whatever their signs."""
    return float(np.sqrt(np.square(correlations).mean()))
