import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.statistics import Interval, paired_difference, student_interval


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_paired_difference_equals_scipy(n: int, level: float) -> None:
    rng = np.random.default_rng(n)
    values, reference = rng.normal(size=(2, n)).tolist()
    ours = paired_difference(pd.Series(values), pd.Series(reference), level)
    theirs = stats.ttest_rel(values, reference).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.mean == pytest.approx(np.mean(values) - np.mean(reference))
    assert ours.n == n


def test_seeds_of_one_side_and_nan_are_left_out() -> None:
    values = pd.Series({0: 1.0, 1: 2.0, 2: math.nan, 3: 9.0})
    difference = paired_difference(values, pd.Series({0: 0.5, 1: 1.0, 2: 1.0}))
    assert difference.n == 2
    assert difference.mean == 0.75


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    single = student_interval(pd.Series([2.0]))
    none = student_interval(pd.Series([], dtype=float))
    assert single.mean == 2.0
    assert single.n == 1
    assert math.isnan(single.low)
    assert none.n == 0
    assert math.isnan(none.mean)


def test_equal_differences_have_an_interval_of_no_width() -> None:
    assert student_interval(pd.Series([1.0, 1.0])) == Interval(1.0, 1.0, 1.0, 2)
